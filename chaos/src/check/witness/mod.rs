//! The revision witness: the store names the order it claims (a revision on every answer), so checking is a replay.
//!
//! 1. The log is what a watch from the first revision shows.
//! 2. Each request takes its revision: a write the one it made, a read the one in its answer's header. A write of unknown fate
//!    takes the revision at which its unique value stands in the log, or never happened.
//! 3. Replaying the log, every answer must match the state at its revision, and every write must have changed exactly what the
//!    log shows. Every revision belongs to one write, to a call of the lock service, or is the end of a lease: all its keys at once. Where the log is that of the
//!    whole store, every revision up to the highest that an answer names is there.
//! 4. If A returned before B was invoked, then rev(A) ≤ rev(B), strictly when B is a write. Serializable reads are exempt.
//!
//! When all hold, the revision order is a legal sequential execution that respects real time: the history is strictly
//! serializable. That is a proof for this history, in O(n log n).

mod owners;
mod time;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::opinions::Opinion;
use super::versions::{Versions, effect};
use super::{Record, Violation};
use crate::history::{
    Event, Exchange, ExchangeEnd, Function, KeyState, LockCall, Request, exchanges, lock_calls,
};

/// Name of the checker.
pub const NAME: &str = "witness";

/// Violations reported before the checker stops looking.
const VIOLATIONS_MAX: usize = 20;

/// Characters of a request or an answer that a sentence shows.
const SHOWN_MAX: usize = 300;

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
    /// Changes in the log.
    pub changes: usize,
    /// Revisions at which a lease ended.
    pub leases_ended: usize,
}

/// Says what the witness thinks of a run. It needs a log, and requests.
pub(super) fn opinion(record: &Record) -> Result<Option<Opinion>, String> {
    let exchanges = exchanges(&record.events)?;
    if record.logs.is_empty() || exchanges.is_empty() {
        return Ok(None);
    }
    let versions = record.versions();
    let unknown: Vec<String> = forgotten(record, &versions).into_iter().collect();
    let locks = lock_calls(&record.events)?;
    let outcome =
        if unknown.is_empty() { check(&exchanges, &locks, &versions) } else { Ok(Report::default()) };
    let (report, mut violations) = match outcome {
        Ok(report) => (report, Vec::new()),
        Err(violations) => (Report::default(), violations),
    };
    if let Some(from) = whole_from(record).filter(|_| unknown.is_empty()) {
        violations.extend(gaps(from, &exchanges, &versions));
    }
    let Report { reads, writes, unknown_applied, changes, leases_ended, .. } = report;
    let counts = [
        ("reads", reads),
        ("writes", writes),
        ("unknown_applied", unknown_applied),
        ("changes", changes),
        ("leases_ended", leases_ended),
    ];
    Ok(Some(Opinion {
        checker: NAME,
        scope: format!(
            "{reads} reads, {writes} writes, {changes} changes in the log; {unknown_applied} of unknown fate happened"
        ),
        violations,
        unknown,
        counts: BTreeMap::from(counts),
    }))
}

/// What was compacted before anybody had shown it: of such a run nothing is known.
pub(super) fn forgotten(record: &Record, versions: &Versions<'_>) -> Option<String> {
    let audits = record.events.iter().filter(|event| event.f == Function::Audit);
    let number = |event: &Event, name| event.value.get(name).and_then(Value::as_i64);
    let begins = audits.filter_map(|event| Some((number(event, "from")?, number(event, "shown_from")?)));
    let (from, shown_from) = begins.max_by_key(|(_, shown_from)| *shown_from)?;
    let missing: Vec<i64> =
        (from.max(2)..shown_from).filter(|revision| !versions.revisions().contains_key(revision)).collect();
    let (first, last) = (missing.first()?, missing.last()?);
    Some(format!(
        "{} revisions from {first} to {last} were compacted before any member had shown them",
        missing.len()
    ))
}

/// Returns the first revision of a log that is known to have the changes of all keys: the store is the run's own.
fn whole_from(record: &Record) -> Option<i64> {
    let audits = record.events.iter().filter(|event| event.f == Function::Audit);
    let whole = audits.filter(|event| event.value.get("whole").and_then(Value::as_bool) == Some(true));
    whole.filter_map(|event| event.value.get("from").and_then(Value::as_i64)).max()
}

/// Finds revisions that hold nothing, up to the highest that an answer names: each is made by a change.
fn gaps(from: i64, exchanges: &[Exchange], versions: &Versions<'_>) -> Vec<Violation> {
    let answered = exchanges.iter().filter_map(|exchange| match exchange.end {
        ExchangeEnd::Ok { revision, .. } => Some((revision, exchange)),
        ExchangeEnd::Fail { .. } | ExchangeEnd::Unknown => None,
    });
    let Some((until, by)) = answered.max_by_key(|(revision, _)| *revision) else { return Vec::new() };
    // The first revision is that of an empty store.
    let mut next = from.max(2);
    let mut violations = Vec::new();
    for revision in versions.revisions().range(next..=until).map(|(revision, _)| *revision).chain([until + 1])
    {
        if next < revision {
            violations.push(Violation {
                rule: "empty revision",
                sentence: format!(
                    "no log shows a change of the revisions {next} to {}, and {} was answered at {until}",
                    revision - 1,
                    name(by)
                ),
                operations: vec![by.index],
            });
        }
        next = revision + 1;
    }
    violations.truncate(VIOLATIONS_MAX);
    violations
}

/// A request that happened, with its revision.
type Placed<'a> = (&'a Exchange, i64);

/// Checks requests against the log; what the lock service wrote for callers belongs to them.
///
/// # Errors
/// The violations found, at most twenty.
pub fn check(
    exchanges: &[Exchange],
    locks: &[LockCall],
    versions: &Versions<'_>,
) -> Result<Report, Vec<Violation>> {
    let mut violations = Vec::new();
    let changes = versions.revisions().values().map(Vec::len).sum();
    let mut report = Report { changes, ..Report::default() };
    let placed = place(exchanges, versions, &mut report, &mut violations);
    for (exchange, revision) in &placed {
        answer_matches(exchange, *revision, versions, &mut violations);
    }
    report.leases_ended = owners::check(&placed, (exchanges, locks), versions, &mut violations);
    time::check(&placed, &mut violations);
    violations.truncate(VIOLATIONS_MAX);
    if violations.is_empty() { Ok(report) } else { Err(violations) }
}

/// Step 2: each request that happened, with its revision.
fn place<'a>(
    exchanges: &'a [Exchange],
    versions: &Versions<'_>,
    report: &mut Report,
    violations: &mut Vec<Violation>,
) -> Vec<Placed<'a>> {
    let entries = versions.revisions().values().flatten();
    let by_value: BTreeMap<(&str, &str), i64> = entries
        .filter_map(|entry| {
            Some(((entry.key.as_str(), entry.state.as_ref()?.value.as_str()), entry.revision))
        })
        .collect();
    let mut placed = Vec::new();
    for exchange in exchanges {
        let logged = || {
            let puts = exchange.request.puts().into_iter();
            puts.filter_map(|put| by_value.get(&(put.key.as_str(), put.value.as_str())).copied()).min()
        };
        match &exchange.end {
            ExchangeEnd::Ok { revision, response, .. } => {
                if response.wrote() {
                    report.writes += 1;
                } else {
                    report.reads += 1;
                }
                placed.push((exchange, *revision));
            }
            ExchangeEnd::Unknown => match logged() {
                Some(revision) => {
                    report.unknown_applied += 1;
                    placed.push((exchange, revision));
                }
                None => report.unknown_dropped += 1,
            },
            ExchangeEnd::Fail { .. } => {
                if let Some(revision) = logged() {
                    violations.push(Violation {
                        rule: "failed write happened",
                        sentence: format!(
                            "{} was reported as failed, but stands in the log at {revision}",
                            name(exchange)
                        ),
                        operations: vec![exchange.index],
                    });
                }
            }
        }
    }
    placed
}

/// Step 3: an answer shows the state at its revision.
fn answer_matches(
    exchange: &Exchange,
    revision: i64,
    versions: &Versions<'_>,
    violations: &mut Vec<Violation>,
) {
    // A write sees what was before its own revision, a read everything up to it.
    let ExchangeEnd::Ok { response, .. } = &exchange.end else { return };
    let stands_at = if response.wrote() { revision } else { revision + 1 };
    let expected = effect(versions, &exchange.request, stands_at);
    if expected.response != *response {
        violations.push(Violation {
            rule: "wrong answer",
            sentence: format!(
                "{} was answered {}, but by the log it is {} at revision {revision}",
                name(exchange),
                shown(response),
                shown(&expected.response)
            ),
            operations: vec![exchange.index],
        });
    }
}

/// Names a request so that a reader finds it in the history.
fn name(exchange: &Exchange) -> String {
    format!("#{} ({} at {})", exchange.index, describe(&exchange.request), exchange.node)
}

fn describe(request: &Request) -> String {
    match request {
        Request::Range(range) => match &range.end {
            None => format!("read of {}", range.key),
            Some(end) => format!("read of {} to {end}", range.key),
        },
        Request::Put(put) => format!("write {} to {}", put.value, put.key),
        Request::Delete(delete) => match &delete.end {
            None => format!("delete of {}", delete.key),
            Some(end) => format!("delete of {} to {end}", delete.key),
        },
        Request::Txn(_) => format!("transaction {}", shown(request)),
    }
}

/// Shows a request or an answer, or the beginning of a long one.
fn shown(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or(&text)),
        None => text,
    }
}

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
