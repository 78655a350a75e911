//! Snapshots: a restored one holds what the store held at one revision, which is not older than what the member that saved it had
//! shown before.
//!
//! | rule | what must hold |
//! |---|---|
//! | no restore | a file that was saved whole can be restored |
//! | wrong state restored | the keys are those of one revision of the store |
//! | old state saved | that revision is not older than what the member had shown when it was asked to save |
//! | revision below its keys | the restored store has no lower revision than its keys |
//! | revisions not raised | it begins above every revision that clients of the saved one may have seen |
//! | past readable | it says of those revisions that they are compacted |
//!
//! The last two are about a store whose tool promises it: clients that come over must not take what happens there for what they have
//! seen (etcd issue 16028). etcd raises revisions only when it is asked to, and 3.4 not at all.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::compaction::{CLASS, COMPACTED};
use super::opinions::Opinion;
use super::versions::Versions;
use super::{Record, Violation};
use crate::history::{Event, EventKind, Function, KeyState, Row};

/// Name of the checker.
pub const NAME: &str = "snapshot";

/// Says what it thinks of the snapshots that were restored. It needs a log.
pub(super) fn opinion(record: &Record) -> Result<Option<Opinion>, String> {
    let restored: Vec<&Event> = record.events.iter().filter(|event| event.f == Function::Restore).collect();
    if record.logs.is_empty() || restored.is_empty() {
        return Ok(None);
    }
    let versions = record.versions();
    let mut unknown = Vec::new();
    let mut violations = Vec::new();
    let mut keys = 0;
    for event in &restored {
        if let Some(error) = &event.error {
            let sentence = format!("snapshot {} (#{}): {error}", file(event), event.index);
            violations.push(Violation { rule: "no restore", sentence, operations: vec![event.index] });
            continue;
        }
        let rows: Vec<Row> = serde_json::from_value(event.value.get("rows").cloned().unwrap_or_default())
            .map_err(|error| format!("event {}: the rows cannot be read: {error}", event.index))?;
        keys += rows.len();
        let least = least(&record.events, event);
        violations.extend(problem(event, &rows, least, &versions));
        violations.extend(low_revision(event, &rows));
        let raises = event.value.get("raises").and_then(Value::as_bool) == Some(true);
        if raises {
            violations.extend(not_raised(event, &record.events, &versions));
            violations.extend(past_readable(event, &mut unknown));
        }
    }
    Ok(Some(Opinion {
        checker: NAME,
        scope: format!("{} snapshots restored, {keys} keys", restored.len()),
        violations,
        unknown,
        counts: BTreeMap::from([("restored", restored.len()), ("keys", keys)]),
    }))
}

fn file(event: &Event) -> &str {
    event.value.get("file").and_then(Value::as_str).unwrap_or_default()
}

/// The highest revision that the member had shown when it was asked to save, with the event that shows it.
fn least(events: &[Event], restored: &Event) -> (i64, u64) {
    let of_saving =
        |event: &&Event| event.f == Function::Snapshot && event.key.as_deref() == Some(file(restored));
    let Some(asked) = events.iter().filter(of_saving).find(|event| event.kind == EventKind::Invoke) else {
        return (0, 0);
    };
    let before = events.iter().filter(|event| event.index < asked.index && event.node == asked.node);
    // A snapshot's own answer names no revision.
    let shown = before.filter(|event| event.kind == EventKind::Ok && event.f == Function::Kv);
    shown.filter_map(|event| Some((event.rev?, event.index))).max().unwrap_or((0, 0))
}

fn problem(event: &Event, rows: &[Row], least: (i64, u64), versions: &Versions<'_>) -> Option<Violation> {
    let newest = rows.iter().map(|row| row.state.mod_revision).max().unwrap_or(1);
    let same = last_with(rows, newest, versions);
    let violation = |rule, sentence, operations| Some(Violation { rule, sentence, operations });
    let Some(revision) = same else {
        let at_newest = versions.all(newest);
        let differs = difference(rows, &at_newest);
        let sentence = format!(
            "snapshot {} (#{}) holds what was at no revision: its newest key is of {newest}, where {differs}",
            file(event),
            event.index
        );
        return violation("wrong state restored", sentence, vec![event.index]);
    };
    // Revisions up to the next put have the same rows if they only delete what is not there: none.
    let (shown, shown_by) = least;
    if revision < shown && versions.all(shown) != rows {
        let sentence = format!(
            "snapshot {} (#{}) holds revision {revision}, but #{shown_by} had shown {shown} through the same member before",
            file(event),
            event.index
        );
        return violation("old state saved", sentence, vec![shown_by, event.index]);
    }
    None
}

/// Returns the last revision at which the store held just these rows, of which the newest is of the revision `newest`. What was put
/// behind it must be gone again.
fn last_with(rows: &[Row], newest: i64, versions: &Versions<'_>) -> Option<i64> {
    let wanted: BTreeMap<&str, &KeyState> = rows.iter().map(|row| (row.key.as_str(), &row.state)).collect();
    let before = versions.all(newest);
    let held: BTreeMap<&str, &KeyState> = before.iter().map(|row| (row.key.as_str(), &row.state)).collect();
    let keys = wanted.keys().chain(held.keys()).copied();
    let mut differing: BTreeSet<&str> = keys.filter(|key| wanted.get(key) != held.get(key)).collect();
    let mut last = differing.is_empty().then_some(newest);
    for (revision, entries) in versions.revisions().range(newest + 1..) {
        for entry in entries {
            let key = entry.key.as_str();
            if wanted.get(key).copied() == entry.state.as_ref() {
                differing.remove(key);
            } else {
                differing.insert(key);
            }
        }
        if differing.is_empty() {
            last = Some(*revision);
        }
    }
    // Each key once, and in order.
    last.filter(|revision| versions.all(*revision) == rows)
}

fn revision(event: &Event) -> Option<i64> {
    event.value.get("revision").and_then(Value::as_i64)
}

fn low_revision(event: &Event, rows: &[Row]) -> Option<Violation> {
    let (revision, newest) = (revision(event)?, rows.iter().max_by_key(|row| row.state.mod_revision)?);
    (revision < newest.state.mod_revision).then(|| Violation {
        rule: "revision below its keys",
        sentence: format!(
            "snapshot {} (#{}) was restored at revision {revision}, and its key {} is of {}",
            file(event),
            event.index,
            newest.key,
            newest.state.mod_revision
        ),
        operations: vec![event.index],
    })
}

/// What clients of the saved store have seen, or may have, comes no more.
fn not_raised(event: &Event, events: &[Event], versions: &Versions<'_>) -> Option<Violation> {
    let revision = revision(event)?;
    let logged = versions.revisions().last_key_value().map(|(revision, _)| (*revision, None));
    let shown = events.iter().filter_map(|other| Some((other.rev?, Some(other.index))));
    let (seen, by) = shown.chain(logged).max()?;
    (revision <= seen).then(|| Violation {
        rule: "revisions not raised",
        sentence: format!(
            "snapshot {} (#{}) was restored at revision {revision}, and the saved store had come to {seen}",
            file(event),
            event.index
        ),
        operations: by.into_iter().chain([event.index]).collect(),
    })
}

/// Who asks for a revision of the saved store is told that it is compacted.
fn past_readable(event: &Event, unknown: &mut Vec<String>) -> Option<Violation> {
    let past = event.value.get("past")?;
    let error = past.get("error").and_then(Value::as_str);
    let asked = past.get("revision").and_then(Value::as_i64).unwrap_or(0);
    let (name, index) = (file(event), event.index);
    let said = match error {
        Some(error) if error.contains(COMPACTED) => return None,
        Some(error) if !error.contains(CLASS) => {
            unknown.push(format!("snapshot {name} (#{index}): revision {asked} was not shown: {error}"));
            return None;
        }
        Some(error) => format!("was refused with {error}"),
        None => "was answered".to_owned(),
    };
    let sentence = format!(
        "snapshot {name} (#{index}) was restored, and revision {asked}, which clients of the saved store had seen, {said}"
    );
    Some(Violation { rule: "past readable", sentence, operations: vec![index] })
}

fn difference(restored: &[Row], expected: &[Row]) -> String {
    let only = |left: &[Row], right: &[Row]| left.iter().find(|row| !right.contains(row)).cloned();
    let shown = |row: &Row| format!("{} = {:?} (of {})", row.key, row.state.value, row.state.mod_revision);
    match (only(restored, expected), only(expected, restored)) {
        (Some(extra), _) => format!("the store did not hold {}", shown(&extra)),
        (None, Some(missing)) => format!("the store also held {}", shown(&missing)),
        (None, None) => "the order of keys differs".to_owned(),
    }
}

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
