//! Convergence: once all is healed, every member must hold the same, and must have shown the same all along.
//!
//! Each member gives its hash at one revision and its log; members that differ are named with the first revision where they do. What a
//! member has shown under way stands in its log at the end, or in another's if it is gone by then.
//! Hashes are compared among members that have compacted up to the same revision: they cover what is behind it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::opinions::Opinion;
use super::witness::LogEntry;
use super::{Record, Violation};
use crate::history::{Event, Function};

/// Name of the checker.
pub const NAME: &str = "convergence";

/// What a member says of its whole state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StateHash {
    /// Everything up to this revision.
    pub revision: i64,
    /// What is at or below this revision is forgotten, but for what is still there.
    pub compacted: i64,
    pub hash: u32,
}

/// Says whether members agree. It needs the log of at least one member.
pub(super) fn opinion(record: &Record) -> Result<Option<Opinion>, String> {
    if record.logs.is_empty() {
        return Ok(None);
    }
    let hashes = hashes(&record.events)?;
    let mut violations = logs(&record.logs);
    violations.extend(differing(&hashes));
    violations.extend(changed(record));
    let revisions: std::collections::BTreeSet<i64> =
        record.logs.iter().flat_map(|(_, log)| log).map(|entry| entry.revision).collect();
    Ok(Some(Opinion {
        checker: NAME,
        scope: format!(
            "{} members, {} revisions, {} hashes",
            record.logs.len(),
            revisions.len(),
            hashes.len()
        ),
        violations,
        unknown: Vec::new(),
        counts: BTreeMap::from([
            ("members", record.logs.len()),
            ("revisions", revisions.len()),
            ("hashes", hashes.len()),
        ]),
    }))
}

fn hashes(events: &[Event]) -> Result<Vec<(String, StateHash)>, String> {
    let mut hashes = Vec::new();
    for event in events.iter().filter(|event| event.f == Function::Audit) {
        let Some(hash) = event.value.get("hash").filter(|hash| !hash.is_null()) else { continue };
        let hash = serde_json::from_value(hash.clone())
            .map_err(|error| format!("event {}: the hash cannot be read: {error}", event.index))?;
        hashes.push((event.node.clone().unwrap_or_default(), hash));
    }
    Ok(hashes)
}

fn differing(hashes: &[(String, StateHash)]) -> Vec<Violation> {
    let mut first: BTreeMap<(i64, i64), (&str, u32)> = BTreeMap::new();
    let mut violations = Vec::new();
    for (name, StateHash { revision, compacted, hash }) in hashes {
        let (other, known) = *first.entry((*revision, *compacted)).or_insert((name, *hash));
        if known != *hash {
            violations.push(Violation {
                rule: "hashes differ",
                sentence: format!(
                    "at revision {revision}, compacted at {compacted}, {other} has the hash {known:08x} and {name} {hash:08x}"
                ),
                operations: Vec::new(),
            });
        }
    }
    violations
}

/// Names the first change of each member that is not in its log as it had shown it while the run was under way. Of a member that
/// shows no log at the end, it must be in that of another.
fn changed(record: &Record) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (name, live) in &record.live {
        let own = record.logs.iter().find(|(other, _)| other == name);
        let Some((of, log)) = own.or_else(|| record.logs.first()) else { continue };
        let (Some(first), Some(last)) = (log.first(), log.last()) else { continue };
        let by_place: BTreeMap<(i64, &str), &LogEntry> =
            log.iter().map(|entry| ((entry.revision, entry.key.as_str()), entry)).collect();
        let within = live.iter().filter(|entry| (first.revision..=last.revision).contains(&entry.revision));
        for entry in within {
            let now = by_place.get(&(entry.revision, entry.key.as_str())).copied();
            if now != Some(entry) {
                violations.push(Violation {
                    rule: "log changed",
                    sentence: format!(
                        "{name} showed {} while the run was under way, and {of} {} at the end",
                        shown(Some(entry)),
                        shown(now)
                    ),
                    operations: Vec::new(),
                });
                break;
            }
        }
    }
    violations
}

/// Names each member whose log is not the first one's, with the first revision where it is not.
fn logs(logs: &[(String, Vec<LogEntry>)]) -> Vec<Violation> {
    let Some((first_name, first)) = logs.first() else { return Vec::new() };
    let mut violations = Vec::new();
    for (name, log) in logs.iter().skip(1).filter(|(_, log)| log != first) {
        let same = first.iter().zip(log).take_while(|(left, right)| left == right).count();
        let (left, right) = (first.get(same), log.get(same));
        let revision = [left, right].into_iter().flatten().map(|entry| entry.revision).min().unwrap_or(0);
        violations.push(Violation {
            rule: "members diverge",
            sentence: format!(
                "the first difference is at revision {revision}: {} on {first_name} and {} on {name}",
                shown(left),
                shown(right)
            ),
            operations: Vec::new(),
        });
    }
    violations
}

fn shown(entry: Option<&LogEntry>) -> String {
    match entry {
        None => "nothing".to_owned(),
        Some(LogEntry { revision, key, state: None }) => format!("the delete of {key} at {revision}"),
        Some(LogEntry { revision, key, state: Some(state) }) => {
            format!(
                "{:?} of {key} at {revision} (version {}, created at {})",
                state.value, state.version, state.create_revision
            )
        }
    }
}

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
