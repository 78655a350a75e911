//! Snapshots: a restored one holds what the store held at one revision, which is not older than what the member that saved it had
//! shown before.

use std::collections::BTreeMap;

use super::opinions::Opinion;
use super::versions::Versions;
use super::{Record, Violation};
use crate::history::{Event, EventKind, Function, Row};

/// Name of the checker.
pub const NAME: &str = "snapshot";

/// Says what it thinks of the snapshots that were restored. It needs a log.
pub(super) fn opinion(record: &Record) -> Result<Option<Opinion>, String> {
    let restored: Vec<&Event> = record.events.iter().filter(|event| event.f == Function::Restore).collect();
    if record.logs.is_empty() || restored.is_empty() {
        return Ok(None);
    }
    let versions = record.versions();
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
    }
    Ok(Some(Opinion {
        checker: NAME,
        scope: format!("{} snapshots restored, {keys} keys", restored.len()),
        violations,
        unknown: Vec::new(),
        counts: BTreeMap::from([("restored", restored.len()), ("keys", keys)]),
    }))
}

fn file(event: &Event) -> &str {
    event.value.get("file").and_then(serde_json::Value::as_str).unwrap_or_default()
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
    // Behind the newest row there can only have been deletes: the state is that of one of these revisions.
    let mut candidates = vec![newest];
    for (revision, entries) in versions.revisions().range(newest + 1..) {
        if entries.iter().any(|entry| entry.state.is_some()) {
            break;
        }
        candidates.push(*revision);
    }
    let same = candidates.iter().rev().find(|revision| versions.all(**revision) == rows);
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
    if *revision < shown && versions.all(shown) != rows {
        let sentence = format!(
            "snapshot {} (#{}) holds revision {revision}, but #{shown_by} had shown {shown} through the same member before",
            file(event),
            event.index
        );
        return violation("old state saved", sentence, vec![shown_by, event.index]);
    }
    None
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
mod tests;
