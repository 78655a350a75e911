//! Bank: money moves between accounts, so every read of all of them shows the same total, and no account is overdrawn.
//!
//! | rule | what must hold |
//! |---|---|
//! | total changed | every read shows as much as the first: a transaction that is half done, or read half, shows in the total |
//! | account overdrawn | no account has less than nothing |
//! | account missing | once they are opened, every read shows all accounts |
//! | balance from nowhere | what an account shows was written by somebody who had been asked, and was not refused |
//! | transfer lost | no account shows what was replaced before the read was invoked |
//! | half a transfer | no account shows what was replaced by a transfer that another account of the same read shows |
//!
//! This believes nothing that the store says of revisions. Whether a transfer's condition held is the witness's business.

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
    let reads = reads(&exchanges);
    if reads.iter().all(|(_, rows)| rows.is_empty()) {
        return Ok(None);
    }
    let mut violations = judge(&exchanges, &reads);
    violations.truncate(VIOLATIONS_MAX);
    Ok(Some(Opinion {
        checker: NAME,
        scope: format!("{} reads of all accounts", reads.len()),
        violations,
        unknown: Vec::new(),
        counts: BTreeMap::from([("reads", reads.len())]),
    }))
}

/// A read of all accounts.
type AllRead<'a> = (&'a Exchange, &'a [Row]);

fn reads(exchanges: &[Exchange]) -> Vec<AllRead<'_>> {
    let mut reads = Vec::new();
    for exchange in exchanges {
        if let ExchangeEnd::Ok { response, .. } = &exchange.end {
            collect(exchange, &exchange.request, response, &mut reads);
        }
    }
    reads
}

/// Finds the reads of all accounts, also those inside of transactions.
fn collect<'a>(
    exchange: &'a Exchange,
    request: &Request,
    response: &'a Response,
    reads: &mut Vec<AllRead<'a>>,
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

fn judge(exchanges: &[Exchange], reads: &[AllRead<'_>]) -> Vec<Violation> {
    let mut violations = Vec::new();
    totals(reads, &mut violations);
    accounts(exchanges, reads, &mut violations);
    let histories = histories(exchanges, reads);
    for (read, rows) in reads {
        for row in *rows {
            // Of an account that nobody writes nothing is known.
            let Some(history) = histories.get(row.key.as_str()) else { continue };
            violations.extend(balance_problem(read, row, history));
        }
        violations.extend(half(read, rows, &histories));
    }
    violations
}

fn listed(rows: &[Row]) -> String {
    let all: Vec<String> =
        rows.iter().map(|row| format!("{} {}", row.key, balance(&row.state.value))).collect();
    all.join(", ")
}

fn totals(reads: &[AllRead<'_>], violations: &mut Vec<Violation>) {
    let total = |rows: &[Row]| rows.iter().map(|row| balance(&row.state.value)).sum::<i64>();
    // Before the accounts are opened there are none.
    let mut opened = reads.iter().filter(|(_, rows)| !rows.is_empty()).peekable();
    let Some((first, expected)) = opened.peek().map(|(first, rows)| (*first, total(rows))) else { return };
    for (read, rows) in opened {
        let found = total(rows);
        if found != expected {
            violations.push(Violation {
                rule: "total changed",
                sentence: format!(
                    "#{} shows {found} in all ({}), but #{} {expected}",
                    read.index,
                    listed(rows),
                    first.index
                ),
                operations: vec![first.index, read.index],
            });
        }
        if rows.iter().any(|row| balance(&row.state.value) < 0) {
            violations.push(Violation {
                rule: "account overdrawn",
                sentence: format!("#{} shows {}", read.index, listed(rows)),
                operations: vec![read.index],
            });
        }
    }
}

/// All accounts are opened at once, and none is ever closed.
fn accounts(exchanges: &[Exchange], reads: &[AllRead<'_>], violations: &mut Vec<Violation>) {
    let keys = |rows: &[Row]| rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>();
    let wrote = |exchange: &&Exchange| exchange.request.puts().iter().any(|put| put.key.contains(FOLDER));
    let acknowledged = exchanges.iter().filter(wrote).filter(|exchange| exchange.may_write());
    let shown = reads.iter().filter(|(_, rows)| !rows.is_empty()).map(|(read, _)| *read);
    let returned = acknowledged.chain(shown).filter_map(|exchange| match exchange.end {
        ExchangeEnd::Ok { returned_at, .. } => Some((returned_at, exchange.index)),
        ExchangeEnd::Fail { .. } | ExchangeEnd::Unknown => None,
    });
    let opened = returned.min();
    let Some((first, all)) =
        reads.iter().map(|(read, rows)| (read, keys(rows))).max_by_key(|(_, all)| all.len())
    else {
        return;
    };
    for (read, rows) in reads {
        let by = match opened {
            Some((opened_at, by)) if rows.is_empty() && opened_at < read.invoked_at => by,
            _ if !rows.is_empty() && keys(rows) != all => first.index,
            _ => continue,
        };
        violations.push(Violation {
            rule: "account missing",
            sentence: format!("#{} shows only {:?} of {all:?}, which #{by} knew", read.index, keys(rows)),
            operations: vec![by, read.index],
        });
    }
}

/// What was written to one account.
#[derive(Default)]
struct History<'a> {
    /// Writes that may have happened, by value.
    writers: BTreeMap<&'a str, &'a Exchange>,
    /// When an answer had returned that shows a value, or that it was written.
    shown: BTreeMap<&'a str, u64>,
    /// The same by time, each with the last invocation of a write so far that was shown by then, and its index.
    replaced: Vec<(u64, (u64, u64))>,
}

fn histories<'a>(exchanges: &'a [Exchange], reads: &[AllRead<'a>]) -> BTreeMap<&'a str, History<'a>> {
    let mut histories: BTreeMap<&str, History<'_>> = BTreeMap::new();
    let earlier = |shown: &mut BTreeMap<&'a str, u64>, value: &'a str, at: u64| {
        let first = shown.entry(value).or_insert(at);
        *first = at.min(*first);
    };
    for exchange in exchanges {
        for put in exchange.request.puts().into_iter().filter(|put| put.key.contains(FOLDER)) {
            let history = histories.entry(&put.key).or_default();
            if exchange.may_write() {
                history.writers.insert(&put.value, exchange);
            }
            if let ExchangeEnd::Ok { returned_at, response, .. } = &exchange.end
                && response.wrote()
            {
                earlier(&mut history.shown, &put.value, *returned_at);
            }
        }
    }
    for (read, rows) in reads {
        let ExchangeEnd::Ok { returned_at, .. } = read.end else { continue };
        for row in *rows {
            if let Some(history) = histories.get_mut(row.key.as_str()) {
                earlier(&mut history.shown, &row.state.value, returned_at);
            }
        }
    }
    for history in histories.values_mut() {
        let known = history.shown.iter().filter_map(|(value, at)| {
            let writer = history.writers.get(value)?;
            Some((*at, (writer.invoked_at, writer.index)))
        });
        history.replaced = known.collect();
        history.replaced.sort_unstable();
        let mut last = (0, 0);
        for (_, invoked) in &mut history.replaced {
            last = last.max(*invoked);
            *invoked = last;
        }
    }
    histories
}

fn balance_problem(read: &Exchange, row: &Row, history: &History<'_>) -> Option<Violation> {
    let ExchangeEnd::Ok { returned_at, .. } = read.end else { return None };
    let (reading, key, value) = (read.index, &row.key, &row.state.value);
    let writer = history.writers.get(value.as_str()).filter(|writer| writer.invoked_at <= returned_at);
    let Some(writer) = writer else {
        return Some(Violation {
            rule: "balance from nowhere",
            sentence: format!("#{reading} shows {value:?} of {key}, which nobody wrote before"),
            operations: vec![reading],
        });
    };
    let written_at = history.shown.get(value.as_str())?;
    let before = history.replaced.partition_point(|(at, _)| *at < read.invoked_at);
    let (_, (replaced_at, by)) = history.replaced.get(before.checked_sub(1)?)?;
    (written_at < replaced_at).then(|| Violation {
        rule: "transfer lost",
        sentence: format!(
            "#{reading} shows {value:?} of {key}, which #{} wrote and #{by} had replaced before",
            writer.index
        ),
        operations: vec![writer.index, *by, reading],
    })
}

/// A transfer that the read shows on one account has replaced what was on its other one.
fn half(read: &Exchange, rows: &[Row], histories: &BTreeMap<&str, History<'_>>) -> Option<Violation> {
    let writer = |row: &Row| {
        let history = histories.get(row.key.as_str())?;
        history.writers.get(row.state.value.as_str()).copied()
    };
    let was_there_before = |row: &Row, transfer: &Exchange| {
        let history = histories.get(row.key.as_str());
        let shown_at = history.and_then(|history| history.shown.get(row.state.value.as_str()));
        shown_at.is_some_and(|at| *at < transfer.invoked_at)
    };
    for (row, transfer) in rows.iter().filter_map(|row| Some((row, writer(row)?))) {
        let puts = transfer.request.puts();
        let changed = |other: &&Row| puts.iter().any(|put| put.key == other.key);
        // The other one also changed this account: each would have come behind the other.
        let crosses = |other: &Row| {
            writer(other).is_some_and(|by| {
                by.index != transfer.index && by.request.puts().iter().any(|put| put.key == row.key)
            })
        };
        let is_old = |other: &&Row| was_there_before(other, transfer) || crosses(other);
        if let Some(other) = rows.iter().filter(changed).find(is_old) {
            let (reading, transferring) = (read.index, transfer.index);
            return Some(Violation {
                rule: "half a transfer",
                sentence: format!(
                    "#{reading} shows #{transferring} on {}, but {:?} of {}, which #{transferring} replaced",
                    row.key, other.state.value, other.key
                ),
                operations: vec![transferring, reading],
            });
        }
    }
    None
}

#[cfg(test)]
mod generated;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
