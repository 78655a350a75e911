//! The revision witness: the store names the order it claims (a revision on every answer), so checking is a replay.
//!
//! 1. The log is what a watch from the first revision shows; every member must show the same.
//! 2. Each operation takes its revision: a write the one it made, a read the one in its answer's header. A write of unknown fate
//!    takes the revision at which its unique value stands in the log, or never happened.
//! 3. Replaying the log, every answer must match the state at its revision; every revision belongs to exactly one write.
//! 4. If A returned before B was invoked, then rev(A) ≤ rev(B), strictly when B is a write.
//!
//! When all hold, the revision order is a legal sequential execution that respects real time: the history is strictly
//! serializable. That is a proof for this history, in O(n log n).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Violation;
use crate::history::{Answer, Call, KeyState, Operation, Outcome};

/// Violations reported before the checker stops looking.
const VIOLATIONS_MAX: usize = 20;

/// One change that the log shows: one key at one revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    pub revision: i64,
    pub key: String,
    /// `None` is a delete.
    pub state: Option<KeyState>,
}

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub reads: usize,
    pub writes: usize,
    /// Writes of unknown fate that the log shows happened.
    pub unknown_applied: usize,
    pub unknown_dropped: usize,
    pub revisions: usize,
}

/// Checks operations against each member's log.
///
/// # Errors
/// The violations found, at most twenty.
pub fn check(operations: &[Operation], logs: &[(String, Vec<LogEntry>)]) -> Result<Report, Vec<Violation>> {
    let mut violations = Vec::new();
    logs_agree(logs, &mut violations);
    let Some((_, log)) = logs.first() else { return Ok(Report::default()) };
    let history = KeyHistory::new(log);
    let mut report = Report { revisions: log.len(), ..Report::default() };
    let placed = place(operations, log, &mut report, &mut violations);
    for (operation, revision) in &placed {
        answer_matches(operation, *revision, &history, &mut violations);
    }
    owners(&placed, log, &mut violations);
    real_time(&placed, &mut violations);
    violations.truncate(VIOLATIONS_MAX);
    if violations.is_empty() { Ok(report) } else { Err(violations) }
}

/// Step 1: every member shows the same log.
fn logs_agree(logs: &[(String, Vec<LogEntry>)], violations: &mut Vec<Violation>) {
    let Some((first_name, first)) = logs.first() else { return };
    for (name, log) in logs.iter().skip(1).filter(|(_, log)| log != first) {
        let position = first
            .iter()
            .zip(log)
            .position(|(left, right)| left != right)
            .unwrap_or(first.len().min(log.len()));
        let (left, right) = (first.get(position), log.get(position));
        violations.push(Violation {
            rule: "members diverge",
            sentence: format!(
                "entry {position} of the log is {left:?} on {first_name} and {right:?} on {name}"
            ),
            operations: Vec::new(),
        });
    }
}

/// Step 2: each operation that happened, with its revision.
fn place<'a>(
    operations: &'a [Operation],
    log: &[LogEntry],
    report: &mut Report,
    violations: &mut Vec<Violation>,
) -> Vec<(&'a Operation, i64)> {
    let by_value: BTreeMap<(&str, &str), i64> = log
        .iter()
        .filter_map(|entry| {
            Some(((entry.key.as_str(), entry.state.as_ref()?.value.as_str()), entry.revision))
        })
        .collect();
    let mut placed = Vec::new();
    for operation in operations {
        let logged = operation
            .written_value()
            .and_then(|value| by_value.get(&(operation.key.as_str(), value)).copied());
        match &operation.outcome {
            Outcome::Ok { revision, .. } => {
                if operation.is_write() {
                    report.writes += 1;
                } else {
                    report.reads += 1;
                }
                placed.push((operation, *revision));
            }
            Outcome::Unknown if logged.is_some() => {
                report.unknown_applied += 1;
                placed.extend(logged.map(|revision| (operation, revision)));
            }
            Outcome::Unknown => report.unknown_dropped += 1,
            Outcome::Fail => {
                if let Some(revision) = logged {
                    violations.push(Violation {
                        rule: "failed write happened",
                        sentence: format!(
                            "{} was reported as failed, but stands in the log at {revision}",
                            name(operation)
                        ),
                        operations: vec![operation.index],
                    });
                }
            }
        }
    }
    placed
}

/// All states of each key by revision.
struct KeyHistory<'a> {
    states: BTreeMap<&'a str, BTreeMap<i64, Option<&'a KeyState>>>,
}

impl<'a> KeyHistory<'a> {
    fn new(log: &'a [LogEntry]) -> Self {
        let mut states: BTreeMap<&str, BTreeMap<i64, Option<&KeyState>>> = BTreeMap::new();
        for entry in log {
            states.entry(&entry.key).or_default().insert(entry.revision, entry.state.as_ref());
        }
        Self { states }
    }

    fn at(&self, key: &str, revision: i64) -> Option<&'a KeyState> {
        self.states.get(key)?.range(..=revision).next_back().and_then(|(_, state)| *state)
    }
}

/// Step 3: an answer shows the state at its revision.
fn answer_matches(
    operation: &Operation,
    revision: i64,
    history: &KeyHistory<'_>,
    violations: &mut Vec<Violation>,
) {
    let now = history.at(&operation.key, revision);
    let wrong = match (&operation.call, &operation.outcome) {
        (_, Outcome::Ok { answer: Answer::Read(seen) | Answer::NotSwapped(seen), .. })
            if seen.as_ref() != now =>
        {
            Some(format!("{} saw {seen:?}, but the log has {now:?} at revision {revision}", name(operation)))
        }
        (Call::Cas { expected, .. }, Outcome::Ok { answer: Answer::NotSwapped(_), .. })
            if now.map_or(0, |state| state.mod_revision) == *expected =>
        {
            Some(format!(
                "{} was refused, but the key's mod revision was the expected {expected}",
                name(operation)
            ))
        }
        (Call::Cas { expected, .. }, Outcome::Ok { answer: Answer::Swapped, .. } | Outcome::Unknown) => {
            let before = history.at(&operation.key, revision - 1).map_or(0, |state| state.mod_revision);
            (before != *expected).then(|| {
                format!(
                    "{} wrote at revision {revision}, but the mod revision before was {before}",
                    name(operation)
                )
            })
        }
        _ => None,
    };
    let Some(sentence) = wrong else { return };
    violations.push(Violation { rule: "wrong answer", sentence, operations: vec![operation.index] });
}

/// Step 3: every revision has exactly one writer, and every acknowledged write stands in the log.
fn owners(placed: &[(&Operation, i64)], log: &[LogEntry], violations: &mut Vec<Violation>) {
    let mut owners: BTreeMap<i64, &Operation> = BTreeMap::new();
    for (operation, revision) in placed.iter().filter(|(operation, _)| operation.is_write()) {
        if let Some(other) = owners.insert(*revision, operation) {
            violations.push(Violation {
                rule: "two writes at one revision",
                sentence: format!("{} and {} both claim revision {revision}", name(other), name(operation)),
                operations: vec![other.index, operation.index],
            });
        }
    }
    for entry in log {
        let shown = entry.state.as_ref().map(|state| state.value.as_str());
        match owners.remove(&entry.revision) {
            Some(owner) if owner.key == entry.key && owner.written_value() == shown => {}
            Some(owner) => violations.push(Violation {
                rule: "wrong write in the log",
                sentence: format!(
                    "revision {} holds {shown:?} of {}, not {}",
                    entry.revision,
                    entry.key,
                    name(owner)
                ),
                operations: vec![owner.index],
            }),
            None => violations.push(Violation {
                rule: "unowned revision",
                sentence: format!(
                    "revision {} holds {shown:?} of {}, which nobody wrote",
                    entry.revision, entry.key
                ),
                operations: Vec::new(),
            }),
        }
    }
    for (revision, operation) in owners {
        violations.push(Violation {
            rule: "lost write",
            sentence: format!(
                "{} was acknowledged at revision {revision}, which no log shows",
                name(operation)
            ),
            operations: vec![operation.index],
        });
    }
}

/// Step 4: revisions respect real time. Sweeps by time with the highest revision returned so far.
fn real_time(placed: &[(&Operation, i64)], violations: &mut Vec<Violation>) {
    let mut returns: Vec<(u64, i64, &Operation)> = Vec::new();
    for (operation, revision) in placed {
        if let Outcome::Ok { returned_at, .. } = operation.outcome {
            returns.push((returned_at, *revision, operation));
        }
    }
    returns.sort_by_key(|(returned_at, ..)| *returned_at);
    let mut invocations = placed.to_vec();
    invocations.sort_by_key(|(operation, _)| operation.invoked_at);
    let mut returned = returns.into_iter().peekable();
    let mut newest: Option<(i64, u64, &Operation)> = None;
    for (operation, revision) in invocations {
        while let Some((returned_at, seen, earlier)) = returned.next_if(|(at, ..)| *at < operation.invoked_at)
        {
            if newest.is_none_or(|(highest, ..)| seen > highest) {
                newest = Some((seen, returned_at, earlier));
            }
        }
        let Some((highest, returned_at, earlier)) = newest else { continue };
        let is_stale = if operation.is_write() { revision <= highest } else { revision < highest };
        if is_stale {
            violations.push(stale(operation, revision, earlier, highest, operation.invoked_at - returned_at));
        }
    }
}

fn stale(operation: &Operation, revision: i64, earlier: &Operation, highest: i64, gap_ns: u64) -> Violation {
    let gap_us = gap_ns / 1000;
    Violation {
        rule: if operation.is_write() { "write goes back in time" } else { "stale read" },
        sentence: format!(
            "{} shows revision {revision}, but was invoked {gap_us} µs after {} had returned with revision {highest}",
            name(operation),
            name(earlier)
        ),
        operations: vec![earlier.index, operation.index],
    }
}

/// Names an operation so that a reader finds it in the history.
fn name(operation: &Operation) -> String {
    let what = match &operation.call {
        Call::Read => format!("read of {}", operation.key),
        Call::Write { value } => format!("write {value} to {}", operation.key),
        Call::Cas { value, expected } => format!("cas of {} from {expected} to {value}", operation.key),
    };
    format!("#{} ({what} at {})", operation.index, operation.node)
}

#[cfg(test)]
mod tests;
