//! Watches: nine rules on what each has shown, against the log that members show at the end.
//!
//! The rules and their names are those of etcd's robustness tests (tests/robustness/validate):
//!
//! | rule | what must hold |
//! |---|---|
//! | ordered | events come in the order of their revisions |
//! | unique | no change of a key is shown twice |
//! | atomic | all events of a revision come in one response, or in parts that say so |
//! | reliable | between the first and the last event shown, none is missing and none differs from the log |
//! | resumable | the first event shown is the first one at or behind the revision that was asked for |
//! | bookmarkable | progress says a revision only when everything up to it was shown, and nothing of it comes later |
//! | filter | only keys and kinds of events that were asked for are shown |
//! | prev-kv | the previous state is shown when it was asked for, and is the one that the log has |
//! | is-create | an event says that it created the key exactly when there was none before |
//!
//! A tenth, stalled, is that on a healed cluster a watch shows what has happened. All in O(n log n).
//!
//! Compactions take away one thing only: what a key held before a change that is compacted need not be told, as etcd reads it when the
//! event is sent. Everything that a watch was asked for is shown, or the watch ends; that it ends rightly is judged with compactions.

mod contents;
mod coverage;

use std::collections::BTreeMap;

use super::opinions::Opinion;
use super::versions::Versions;
use super::witness::{LogEntry, forgotten};
use super::{Record, Violation, compaction};
use crate::history::{Event, Noticed, Watch, WatchEvent, WatchSpec, watches};

/// Name of the checker.
pub const NAME: &str = "watch";

/// Violations of each rule that are told.
const VIOLATIONS_PER_RULE: usize = 5;

/// Says what it thinks of the watches of a run. It needs a log.
pub(super) fn opinion(record: &Record) -> Result<Option<Opinion>, String> {
    let watches = watches(&record.events)?;
    let events: usize =
        watches.iter().flat_map(|watch| &watch.notices).map(|noticed| noticed.notice.events.len()).sum();
    if record.logs.is_empty() || events == 0 {
        return Ok(None);
    }
    let versions = record.versions();
    let unknown: Vec<String> = forgotten(record, &versions).into_iter().collect();
    let known = Known { versions: &versions, compactions: Compactions::of(&record.events)? };
    let mut violations = Vec::new();
    for watch in watches.iter().filter(|_| unknown.is_empty()) {
        judge(watch, &known, &mut violations);
    }
    let mut told: BTreeMap<&str, usize> = BTreeMap::new();
    violations.retain(|violation| {
        let count = told.entry(violation.rule).or_default();
        *count += 1;
        *count <= VIOLATIONS_PER_RULE
    });
    let progress =
        watches.iter().flat_map(|watch| &watch.notices).filter(|noticed| noticed.notice.is_progress).count();
    Ok(Some(Opinion {
        checker: NAME,
        scope: format!("{} watches, {events} events, {progress} times progress", watches.len()),
        violations,
        unknown,
        counts: BTreeMap::from([("watches", watches.len()), ("events", events), ("progress", progress)]),
    }))
}

/// What watches are held against.
pub struct Known<'a> {
    pub versions: &'a Versions<'a>,
    pub compactions: Compactions,
}

/// Up to where history may have been compacted, by the index of the event that asked for it.
#[derive(Debug, Default)]
pub struct Compactions(BTreeMap<u64, i64>);

impl Compactions {
    fn of(events: &[Event]) -> Result<Self, String> {
        Ok(Self::new(compaction::possible(events)?))
    }

    /// Takes indices and revisions.
    pub fn new(mut asked: Vec<(u64, i64)>) -> Self {
        asked.sort_unstable();
        let mut highest = 0;
        let rising = asked.into_iter().map(|(index, revision)| {
            highest = highest.max(revision);
            (index, highest)
        });
        Self(rising.collect())
    }

    /// Returns the highest revision that may have been compacted before an event of the history.
    fn before(&self, index: u64) -> i64 {
        self.0.range(..index).next_back().map_or(0, |(_, revision)| *revision)
    }
}

/// Judges one watch.
pub fn judge(watch: &Watch, known: &Known<'_>, violations: &mut Vec<Violation>) {
    let shown: Vec<Shown<'_>> = watch
        .notices
        .iter()
        .flat_map(|noticed| noticed.notice.events.iter().map(move |event| Shown { noticed, event }))
        .collect();
    contents::check(watch, &shown, known, violations);
    coverage::check(watch, &shown, known.versions, violations);
    if let Some(missing) = &watch.stalled {
        violations.push(Violation {
            rule: "watch stalled",
            sentence: format!("{} on a healed cluster: {missing}", name(watch)),
            operations: vec![watch.index],
        });
    }
}

/// An event and the response that it came in.
#[derive(Clone, Copy)]
struct Shown<'a> {
    noticed: &'a Noticed,
    event: &'a WatchEvent,
}

/// The first revision that a watch shows; `None` when nobody knows.
fn start(watch: &Watch) -> Option<i64> {
    if watch.spec.from > 0 { Some(watch.spec.from) } else { watch.created.map(|revision| revision + 1) }
}

fn wants_key(spec: &WatchSpec, key: &str) -> bool {
    match &spec.end {
        None => key == spec.key,
        Some(end) => key >= spec.key.as_str() && key < end.as_str(),
    }
}

fn wants_kind(spec: &WatchSpec, is_put: bool) -> bool {
    if is_put { !spec.no_put } else { !spec.no_delete }
}

fn wants(spec: &WatchSpec, entry: &LogEntry) -> bool {
    wants_key(spec, &entry.key) && wants_kind(spec, entry.state.is_some())
}

/// Names a watch so that a reader finds it in the history.
fn name(watch: &Watch) -> String {
    let spec = &watch.spec;
    let end = spec.end.as_ref().map_or_else(String::new, |end| format!(" to {end}"));
    let mut flags = String::new();
    for (flag, is_set) in [
        ("prev-kv", spec.prev_kv),
        ("no puts", spec.no_put),
        ("no deletes", spec.no_delete),
        ("fragments", spec.fragment),
    ] {
        if is_set {
            flags += ", ";
            flags += flag;
        }
    }
    format!("watch #{} ({}{end} from {}{flags} at {})", watch.index, spec.key, spec.from, watch.node)
}

fn event_name(shown: &Shown<'_>) -> String {
    let what = if shown.event.state.is_some() { "put" } else { "delete" };
    format!("the {what} of {} at {} (#{})", shown.event.key, shown.event.revision, shown.noticed.index)
}

fn violation(rule: &'static str, sentence: String, watch: &Watch, records: &[u64]) -> Violation {
    let operations = std::iter::once(watch.index).chain(records.iter().copied()).collect();
    Violation { rule, sentence, operations }
}

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
