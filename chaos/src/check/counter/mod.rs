//! Counters: no increment is lost, and none counts twice.
//!
//! A value is a number and a unique tag. At any read the number is at least that of increments that had been acknowledged when it
//! was invoked, and at most that of those that had been invoked when it returned and may have happened. Two acknowledged
//! increments never lead to the same number.

use std::collections::BTreeMap;

use super::opinions::Opinion;
use super::{Record, Violation};
use crate::history::{Exchange, ExchangeEnd, Request, Response, exchanges};

/// Name of the checker.
pub const NAME: &str = "counter";

/// Marks the keys of counters.
const FOLDER: &str = "counter/";

/// Violations reported before the checker stops telling.
const VIOLATIONS_MAX: usize = 20;

/// Returns the number that a value of a counter begins with.
#[must_use]
pub fn number(value: &str) -> u64 {
    value.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// One counter.
#[derive(Default)]
struct Counter<'a> {
    /// Acknowledged increments: what they lead to, and when they returned.
    acknowledged: Vec<(u64, u64, &'a Exchange)>,
    /// When increments that may have happened were invoked.
    attempts: Vec<u64>,
    /// What each read shows, and when it returned.
    reads: Vec<(u64, u64, &'a Exchange)>,
}

/// Says what it thinks of the counters of a run.
pub(super) fn opinion(record: &Record) -> Result<Option<Opinion>, String> {
    let exchanges = exchanges(&record.events)?;
    let counters = collect(&exchanges);
    let reads: usize = counters.values().map(|counter| counter.reads.len()).sum();
    let increments: usize = counters.values().map(|counter| counter.acknowledged.len()).sum();
    if reads == 0 || increments == 0 {
        return Ok(None);
    }
    let mut violations = Vec::new();
    for (key, counter) in &counters {
        same_number(key, counter, &mut violations);
        bounds(key, counter, &mut violations);
    }
    violations.truncate(VIOLATIONS_MAX);
    Ok(Some(Opinion {
        checker: NAME,
        scope: format!("{increments} increments acknowledged on {} counters, {reads} reads", counters.len()),
        violations,
        unknown: Vec::new(),
        counts: BTreeMap::from([("increments", increments), ("reads", reads), ("counters", counters.len())]),
    }))
}

fn collect(exchanges: &[Exchange]) -> BTreeMap<&str, Counter<'_>> {
    let mut counters: BTreeMap<&str, Counter<'_>> = BTreeMap::new();
    for exchange in exchanges {
        match &exchange.request {
            Request::Range(range) if range.key.contains(FOLDER) => {
                let ExchangeEnd::Ok { response: Response::Range { rows, .. }, returned_at, .. } =
                    &exchange.end
                else {
                    continue;
                };
                let shown = rows.first().map_or(0, |row| number(&row.state.value));
                counters.entry(&range.key).or_default().reads.push((shown, *returned_at, exchange));
            }
            Request::Txn(_) | Request::Put(_) => {
                for put in exchange.request.puts().into_iter().filter(|put| put.key.contains(FOLDER)) {
                    let counter = counters.entry(&put.key).or_default();
                    if exchange.may_write() {
                        counter.attempts.push(exchange.invoked_at);
                    }
                    if let ExchangeEnd::Ok { returned_at, response, .. } = &exchange.end
                        && response.wrote()
                    {
                        counter.acknowledged.push((number(&put.value), *returned_at, exchange));
                    }
                }
            }
            Request::Range(_) | Request::Delete(_) => {}
        }
    }
    counters
}

fn same_number(key: &str, counter: &Counter<'_>, violations: &mut Vec<Violation>) {
    let mut by_number: BTreeMap<u64, &Exchange> = BTreeMap::new();
    for (number, _, exchange) in &counter.acknowledged {
        if let Some(other) = by_number.insert(*number, exchange) {
            violations.push(Violation {
                rule: "lost update",
                sentence: format!(
                    "#{} and #{} both counted {key} up to {number}",
                    other.index, exchange.index
                ),
                operations: vec![other.index, exchange.index],
            });
        }
    }
}

fn bounds(key: &str, counter: &Counter<'_>, violations: &mut Vec<Violation>) {
    let mut returned: Vec<u64> =
        counter.acknowledged.iter().map(|(_, returned_at, _)| *returned_at).collect();
    returned.sort_unstable();
    let mut invoked = counter.attempts.clone();
    invoked.sort_unstable();
    let count = |times: &[u64], before: u64| {
        u64::try_from(times.partition_point(|time| *time < before)).unwrap_or(u64::MAX)
    };
    for (shown, returned_at, read) in &counter.reads {
        let (least, most) = (count(&returned, read.invoked_at), count(&invoked, *returned_at));
        let rule = if *shown < least {
            "lost increment"
        } else if *shown > most {
            "increment counted twice"
        } else {
            continue;
        };
        violations.push(Violation {
            rule,
            sentence: format!(
                "read #{} shows {shown} of {key}, which is between {least} and {most}",
                read.index
            ),
            operations: vec![read.index],
        });
    }
}

#[cfg(test)]
mod tests;
