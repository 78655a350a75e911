//! Bank: money moves between accounts, so every read of all of them shows the same total, and no account is overdrawn.
//!
//! This believes nothing that the store says of revisions: a transaction that is half done, or read half, shows in the total.

use std::collections::BTreeMap;

use super::opinions::Opinion;
use super::{Record, Violation};
use crate::history::{Exchange, ExchangeEnd, Request, Response, Row, exchanges};

/// Name of the checker.
pub const NAME: &str = "bank";

/// Ends the folder of accounts.
const FOLDER: &str = "bank/";

/// Violations reported before the checker stops telling.
const VIOLATIONS_MAX: usize = 20;

/// Returns the balance that the value of an account begins with.
#[must_use]
pub fn balance(value: &str) -> i64 {
    value.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Says what it thinks of the accounts of a run.
pub(super) fn opinion(record: &Record) -> Result<Option<Opinion>, String> {
    let exchanges = exchanges(&record.events)?;
    let mut reads: Vec<(&Exchange, &[Row])> = Vec::new();
    for exchange in &exchanges {
        if let ExchangeEnd::Ok { response, .. } = &exchange.end {
            collect(exchange, &exchange.request, response, &mut reads);
        }
    }
    // Before the accounts are opened there are none.
    reads.retain(|(_, rows)| !rows.is_empty());
    if reads.is_empty() {
        return Ok(None);
    }
    let mut violations = judge(&reads);
    violations.truncate(VIOLATIONS_MAX);
    Ok(Some(Opinion {
        checker: NAME,
        scope: format!("{} reads of all accounts", reads.len()),
        violations,
        unknown: Vec::new(),
        counts: BTreeMap::from([("reads", reads.len())]),
    }))
}

/// Finds the reads of all accounts, also those inside of transactions.
fn collect<'a>(
    exchange: &'a Exchange,
    request: &Request,
    response: &'a Response,
    reads: &mut Vec<(&'a Exchange, &'a [Row])>,
) {
    match (request, response) {
        (Request::Range(range), Response::Range { rows, .. }) => {
            if range.key.ends_with(FOLDER) && range.end.is_some() {
                reads.push((exchange, rows));
            }
        }
        (Request::Txn(txn), Response::Txn { succeeded, responses }) => {
            let asked = if *succeeded { &txn.then } else { &txn.otherwise };
            for (request, response) in asked.iter().zip(responses) {
                collect(exchange, request, response, reads);
            }
        }
        (Request::Range(_) | Request::Put(_) | Request::Delete(_) | Request::Txn(_), _) => {}
    }
}

fn judge(reads: &[(&Exchange, &[Row])]) -> Vec<Violation> {
    let total = |rows: &[Row]| rows.iter().map(|row| balance(&row.state.value)).sum::<i64>();
    let mut violations = Vec::new();
    let Some((first, expected)) = reads.first().map(|(first, rows)| (first, total(rows))) else {
        return violations;
    };
    for (read, rows) in reads {
        let shown: Vec<String> =
            rows.iter().map(|row| format!("{} {}", row.key, balance(&row.state.value))).collect();
        let found = total(rows);
        if found != expected {
            violations.push(Violation {
                rule: "total changed",
                sentence: format!(
                    "#{} shows {} in all ({}), but #{} {expected}",
                    read.index,
                    found,
                    shown.join(", "),
                    first.index
                ),
                operations: vec![first.index, read.index],
            });
        }
        if rows.iter().any(|row| balance(&row.state.value) < 0) {
            violations.push(Violation {
                rule: "account overdrawn",
                sentence: format!("#{} shows {}", read.index, shown.join(", ")),
                operations: vec![read.index],
            });
        }
    }
    violations
}

#[cfg(test)]
mod tests;
