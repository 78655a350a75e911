//! Convergence: once all is healed, every member must hold the same, and must have shown the same all along.
//!
//! Each member gives its hash at one revision and its log; members that differ are named with the first revision where they do.
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

/// Names the first change of each member that is not in its log as it had shown it while the run was under way.
fn changed(record: &Record) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (name, live) in &record.live {
        let Some((_, log)) = record.logs.iter().find(|(other, _)| other == name) else { continue };
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
                        "{name} showed {} while the run was under way, and {} at the end",
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
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::{EventKind, KeyState, Process};

    fn entry(revision: i64, value: &str) -> LogEntry {
        let state = KeyState {
            value: value.to_owned(),
            version: 1,
            create_revision: revision,
            mod_revision: revision,
            lease: 0,
        };
        LogEntry { revision, key: format!("k{revision}"), state: Some(state) }
    }

    fn audit(index: u64, node: &str, hash: StateHash) -> Event {
        Event {
            index,
            time: index,
            kind: EventKind::Info,
            process: Process::NEMESIS,
            f: Function::Audit,
            key: None,
            value: json!({ "hash": hash }),
            node: Some(node.to_owned()),
            rev: None,
            error: None,
        }
    }

    fn violations(logs: [Vec<LogEntry>; 2], hashes: [StateHash; 2]) -> Vec<Violation> {
        let [one, two] = logs;
        let [left, right] = hashes;
        let events = vec![audit(0, "n1", left), audit(1, "n2", right)];
        let record =
            Record { events, logs: vec![("n1".to_owned(), one), ("n2".to_owned(), two)], live: Vec::new() };
        opinion(&record).unwrap().unwrap().violations
    }

    const SAME: StateHash = StateHash { revision: 3, compacted: 0, hash: 7 };

    #[test]
    fn members_that_agree_pass() {
        let log = vec![entry(2, "a"), entry(3, "b")];
        assert!(violations([log.clone(), log], [SAME, SAME]).is_empty());
    }

    #[test]
    fn the_first_revision_where_logs_differ_is_named() {
        let whole = vec![entry(2, "a"), entry(3, "b"), entry(4, "c")];
        for other in [
            vec![entry(2, "a"), entry(4, "c")],
            vec![entry(2, "a"), entry(3, "x"), entry(4, "c")],
            vec![entry(2, "a")],
        ] {
            let found = violations([whole.clone(), other], [SAME, SAME]);
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].rule, "members diverge");
            assert!(found[0].sentence.contains("at revision 3:"), "{}", found[0].sentence);
        }
    }

    #[test]
    fn hashes_of_one_revision_must_be_equal() {
        let log = vec![entry(2, "a")];
        let found = |other| violations([log.clone(), log.clone()], [SAME, other]);
        assert_eq!(found(StateHash { hash: 8, ..SAME })[0].rule, "hashes differ");
        assert!(found(StateHash { hash: 8, compacted: 2, ..SAME }).is_empty());
        assert!(found(StateHash { hash: 8, revision: 4, ..SAME }).is_empty());
    }

    #[test]
    fn what_a_member_has_shown_stays() {
        let log = vec![entry(3, "a"), entry(4, "b")];
        let found = |live: LogEntry| {
            let (logs, live) = (vec![("n1".to_owned(), log.clone())], vec![("n1".to_owned(), vec![live])]);
            opinion(&Record { events: Vec::new(), logs, live }).unwrap().unwrap().violations
        };
        assert!(found(entry(4, "b")).is_empty());
        // Compacted by now.
        assert!(found(entry(2, "z")).is_empty());
        assert_eq!(found(entry(4, "x"))[0].rule, "log changed");
    }
}
