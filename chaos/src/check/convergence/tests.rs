//! Members that agree pass; each way of differing is named.

use serde_json::json;

use super::*;
use crate::history::{EventKind, KeyState, Process};

pub(super) fn entry(revision: i64, value: &str) -> LogEntry {
    let state = KeyState {
        value: value.to_owned(),
        version: 1,
        create_revision: revision,
        mod_revision: revision,
        lease: 0,
    };
    LogEntry { revision, key: format!("k{revision}"), state: Some(state) }
}

pub(super) fn audit(index: u64, node: &str, hash: StateHash) -> Event {
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
