//! Snapshots that were saved well pass; each way of breaking one is named.

use serde_json::json;

use super::*;
use crate::check::witness::LogEntry;
use crate::history::Process;

fn state(value: &str, revision: i64) -> KeyState {
    KeyState {
        value: value.to_owned(),
        version: 1,
        create_revision: revision,
        mod_revision: revision,
        lease: 0,
    }
}

fn row(key: &str, value: &str, revision: i64) -> Row {
    Row { key: key.to_owned(), state: state(value, revision) }
}

/// Two keys are put, the first is deleted, the third is put.
fn log() -> Vec<LogEntry> {
    let entry = |revision, key: &str, state| LogEntry { revision, key: key.to_owned(), state };
    vec![
        entry(2, "a", Some(state("1", 2))),
        entry(3, "b", Some(state("2", 3))),
        entry(4, "a", None),
        entry(5, "c", Some(state("3", 5))),
    ]
}

fn event(index: u64, kind: EventKind, process: Process, f: Function, value: Value) -> Event {
    let key = (f == Function::Snapshot).then(|| "1.db".to_owned());
    let node = (process != Process::NEMESIS).then(|| "n1".to_owned());
    let rev = (f == Function::Kv).then_some(3);
    Event { index, time: index, kind, process, f, key, value, node, rev, error: None }
}

fn rules(rows: &[Row]) -> Vec<&'static str> {
    let client = Process::Client(0);
    let events = vec![
        event(0, EventKind::Ok, client, Function::Kv, Value::Null),
        event(1, EventKind::Invoke, client, Function::Snapshot, Value::Null),
        event(
            2,
            EventKind::Info,
            Process::NEMESIS,
            Function::Restore,
            json!({ "file": "1.db", "rows": rows }),
        ),
    ];
    let record = Record { events, logs: vec![("n1".to_owned(), log())], live: Vec::new() };
    opinion(&record).unwrap().unwrap().violations.into_iter().map(|violation| violation.rule).collect()
}

#[test]
fn the_state_of_any_revision_that_is_not_too_old_passes() {
    assert!(rules(&[row("a", "1", 2), row("b", "2", 3)]).is_empty());
    assert!(rules(&[row("b", "2", 3)]).is_empty());
    assert!(rules(&[row("b", "2", 3), row("c", "3", 5)]).is_empty());
}

#[test]
fn what_came_and_went_behind_the_newest_row_leaves_a_state_like_any_other() {
    let mut log = log();
    log.push(LogEntry { revision: 6, key: "b".to_owned(), state: Some(state("4", 6)) });
    log.push(LogEntry { revision: 7, key: "b".to_owned(), state: None });
    let value = json!({ "file": "1.db", "rows": [row("c", "3", 5)] });
    let events = vec![event(0, EventKind::Info, Process::NEMESIS, Function::Restore, value)];
    let record = Record { events, logs: vec![("n1".to_owned(), log)], live: Vec::new() };
    assert!(opinion(&record).unwrap().unwrap().violations.is_empty());
}

#[test]
fn a_state_that_never_was_is_found() {
    assert_eq!(rules(&[row("a", "1", 2), row("b", "2", 3), row("c", "3", 5)]), ["wrong state restored"]);
    assert_eq!(rules(&[row("c", "3", 5)]), ["wrong state restored"]);
    assert_eq!(rules(&[row("a", "1", 2), row("b", "x", 3)]), ["wrong state restored"]);
}

#[test]
fn a_state_older_than_what_the_member_had_shown_is_found() {
    assert_eq!(rules(&[row("a", "1", 2)]), ["old state saved"]);
}

#[test]
fn a_restored_store_begins_above_what_clients_had_seen() {
    let found = |revision: i64, raises: bool, past: Value| {
        let rows = [row("b", "2", 3), row("c", "3", 5)];
        let value = json!({
            "file": "1.db",
            "rows": rows,
            "revision": revision,
            "raises": raises,
            "past": { "revision": 5, "error": past },
        });
        let events = vec![event(0, EventKind::Info, Process::NEMESIS, Function::Restore, value)];
        let record = Record { events, logs: vec![("n1".to_owned(), log())], live: Vec::new() };
        let opinion = opinion(&record).unwrap().unwrap();
        let rules = opinion.violations.into_iter().map(|violation| violation.rule).collect::<Vec<_>>();
        (rules, opinion.unknown.len())
    };
    let gone = json!("OutOfRange: etcdserver: mvcc: required revision has been compacted");
    let to_come = json!("OutOfRange: etcdserver: mvcc: required revision is a future revision");
    assert_eq!(found(6, true, gone.clone()), (vec![], 0));
    assert_eq!(found(5, true, gone.clone()), (vec!["revisions not raised"], 0));
    assert_eq!(found(4, true, gone.clone()), (vec!["revision below its keys", "revisions not raised"], 0));
    assert_eq!(found(6, true, Value::Null), (vec!["past readable"], 0));
    assert_eq!(found(6, true, to_come.clone()), (vec!["past readable"], 0));
    assert_eq!(found(6, true, json!("Unavailable: etcdserver: no leader")), (vec![], 1));
    // etcd 3.4 promises neither.
    assert_eq!(found(5, false, to_come), (vec![], 0));
    assert_eq!(found(4, false, gone), (vec!["revision below its keys"], 0));
}
