//! Counters: no increment is lost, and none counts twice.
//!
//! A value is a number and a unique tag; an increment leads from one number to the next. So a counter shows no number that is lower than
//! one that an answer had shown or counted up to before, and none above what increments lead to that had been invoked and
//! may have happened, each number by one of them. Two acknowledged increments never lead to the same number. Together this is all
//! that can be known of one counter: no more is needed for an order of all increments that explains every answer.

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
    answers: Vec<Answer<'a>>,
    /// When the first increment was invoked that may lead to each number.
    attempts: BTreeMap<u64, u64>,
}

/// What an answer says of a counter.
struct Answer<'a> {
    exchange: &'a Exchange,
    /// What was there before, and what behind it: the same for a read.
    from: u64,
    to: u64,
    returned_at: u64,
}

impl Answer<'_> {
    fn is_read(&self) -> bool {
        self.from == self.to
    }
}

/// Says what it thinks of the counters of a run.
pub(super) fn opinion(record: &Record) -> Result<Option<Opinion>, String> {
    let exchanges = exchanges(&record.events)?;
    let counters = collect(&exchanges);
    let answers = || counters.values().flat_map(|counter| &counter.answers);
    let reads = answers().filter(|answer| answer.is_read()).count();
    let increments = answers().count() - reads;
    if reads == 0 || increments == 0 {
        return Ok(None);
    }
    let mut violations = Vec::new();
    for (key, counter) in &counters {
        judge(key, counter, &mut violations);
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
                let answer = Answer { exchange, from: shown, to: shown, returned_at: *returned_at };
                counters.entry(&range.key).or_default().answers.push(answer);
            }
            Request::Txn(_) | Request::Put(_) => {
                for put in exchange.request.puts().into_iter().filter(|put| put.key.contains(FOLDER)) {
                    let counter = counters.entry(&put.key).or_default();
                    let to = number(&put.value);
                    if exchange.may_write() {
                        let first = counter.attempts.entry(to).or_insert(exchange.invoked_at);
                        *first = exchange.invoked_at.min(*first);
                    }
                    if let ExchangeEnd::Ok { returned_at, response, .. } = &exchange.end
                        && response.wrote()
                    {
                        let (from, returned_at) = (to.saturating_sub(1), *returned_at);
                        counter.answers.push(Answer { exchange, from, to, returned_at });
                    }
                }
            }
            Request::Range(_) | Request::Delete(_) => {}
        }
    }
    counters
}

fn judge(key: &str, counter: &Counter<'_>, violations: &mut Vec<Violation>) {
    same_number(key, counter, violations);
    went_back(key, counter, violations);
    beyond_attempts(key, counter, violations);
}

fn same_number(key: &str, counter: &Counter<'_>, violations: &mut Vec<Violation>) {
    let mut by_number: BTreeMap<u64, &Exchange> = BTreeMap::new();
    for Answer { exchange, to, .. } in counter.answers.iter().filter(|answer| !answer.is_read()) {
        if let Some(other) = by_number.insert(*to, exchange) {
            violations.push(Violation {
                rule: "lost update",
                sentence: format!("#{} and #{} both counted {key} up to {to}", other.index, exchange.index),
                operations: vec![other.index, exchange.index],
            });
        }
    }
}

/// Numbers that were known before are not forgotten.
fn went_back(key: &str, counter: &Counter<'_>, violations: &mut Vec<Violation>) {
    let mut returned: Vec<&Answer<'_>> = counter.answers.iter().collect();
    returned.sort_by_key(|answer| answer.returned_at);
    let mut invoked = returned.clone();
    invoked.sort_by_key(|answer| answer.exchange.invoked_at);
    let mut returned = returned.into_iter().peekable();
    let mut highest: Option<&Answer<'_>> = None;
    for answer in invoked {
        let Answer { exchange, from, to, .. } = answer;
        while let Some(earlier) = returned.next_if(|earlier| earlier.returned_at < exchange.invoked_at) {
            if highest.is_none_or(|highest| earlier.to > highest.to) {
                highest = Some(earlier);
            }
        }
        let Some(highest) = highest.filter(|highest| highest.to > *from) else { continue };
        let (index, other) = (exchange.index, highest.exchange.index);
        let (rule, what) = if answer.is_read() {
            ("lost increment", format!("read #{index} shows {to} of {key}"))
        } else {
            ("lost update", format!("#{index} counted {key} up to {to}"))
        };
        let sentence = format!("{what}, after #{other} had known {}", highest.to);
        violations.push(Violation { rule, sentence, operations: vec![other, index] });
    }
}

/// Each number up to the one that an answer knows must come from an increment that had been invoked.
fn beyond_attempts(key: &str, counter: &Counter<'_>, violations: &mut Vec<Violation>) {
    // From when on each number may have been reached, from one on without a gap.
    let mut reachable: Vec<u64> = Vec::new();
    for number in 1.. {
        let Some(attempted_at) = counter.attempts.get(&number) else { break };
        reachable.push(reachable.last().map_or(*attempted_at, |before| *before.max(attempted_at)));
    }
    for Answer { exchange, from, to, returned_at } in &counter.answers {
        let most = reachable.partition_point(|reached_at| reached_at <= returned_at);
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        if *from > most {
            let index = exchange.index;
            violations.push(Violation {
                rule: "increment counted twice",
                sentence: format!(
                    "#{index} knows {to} of {key}, but increments that had been invoked lead to {most} at most"
                ),
                operations: vec![index],
            });
        }
    }
}

#[cfg(test)]
mod generated;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
