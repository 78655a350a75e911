//! Valid histories pass; each way of breaking one is named.

use serde_json::json;

use super::{LogEntry, check, gaps, opinion};
use crate::check::Record;
use crate::check::versions::Versions;
use crate::history::{
    Answer, Call, Event, EventKind, Exchange, ExchangeEnd, Function, KeyState, LockCall, LockEnd, Operation,
    Outcome, Process, Range, Request, Response, Txn,
};

fn exchanges(operations: &[Operation]) -> Vec<Exchange> {
    operations.iter().cloned().map(Exchange::from).collect()
}

fn state(value: &str, version: i64, create_revision: i64, mod_revision: i64) -> KeyState {
    KeyState { value: value.to_owned(), version, create_revision, mod_revision, lease: 0 }
}

fn operation(index: u64, span: (u64, u64), call: Call, answer: Answer, revision: i64) -> Operation {
    Operation {
        index,
        process: Process::Client(0),
        node: "n1".to_owned(),
        key: "k".to_owned(),
        call,
        invoked_at: span.0,
        outcome: Outcome::Ok { answer, revision, returned_at: span.1 },
    }
}

fn write(index: u64, span: (u64, u64), value: &str, revision: i64) -> Operation {
    operation(index, span, Call::Write { value: value.to_owned() }, Answer::Written, revision)
}

fn read(index: u64, span: (u64, u64), seen: Option<KeyState>, revision: i64) -> Operation {
    operation(index, span, Call::Read, Answer::Read(seen), revision)
}

fn log() -> Vec<LogEntry> {
    let entry = |revision, state| LogEntry { revision, key: "k".to_owned(), state: Some(state) };
    vec![entry(2, state("a", 1, 2, 2)), entry(3, state("b", 2, 2, 3))]
}

fn valid() -> Vec<Operation> {
    vec![
        write(0, (0, 10), "a", 2),
        read(2, (20, 30), Some(state("a", 1, 2, 2)), 2),
        write(4, (40, 50), "b", 3),
        read(6, (60, 70), Some(state("b", 2, 2, 3)), 3),
    ]
}

fn rules(operations: &[Operation], log: &[LogEntry]) -> Vec<&'static str> {
    check(&exchanges(operations), &[], &Versions::new(log))
        .err()
        .unwrap_or_default()
        .into_iter()
        .map(|violation| violation.rule)
        .collect()
}

#[test]
fn a_valid_history_passes() {
    let report = check(&exchanges(&valid()), &[], &Versions::new(&log())).unwrap();
    assert_eq!((report.reads, report.writes, report.changes), (2, 2, 2));
}

#[test]
fn a_stale_read_names_both_operations() {
    let mut operations = valid();
    operations[3] = read(6, (60, 70), Some(state("a", 1, 2, 2)), 2);
    let violations = check(&exchanges(&operations), &[], &Versions::new(&log())).unwrap_err();
    assert_eq!(violations.len(), 1);
    assert_eq!((violations[0].rule, violations[0].operations.as_slice()), ("stale read", [4, 6].as_slice()));
}

#[test]
fn an_overlapping_read_may_see_either_state() {
    let mut operations = valid();
    operations[3] = read(6, (45, 70), Some(state("a", 1, 2, 2)), 2);
    assert!(rules(&operations, &log()).is_empty());
}

#[test]
fn a_lost_write_is_found() {
    assert_eq!(rules(&valid()[..3], &log()[..1]), ["lost write"]);
}

#[test]
fn an_unowned_revision_is_found() {
    assert_eq!(rules(&valid()[..2], &log()), ["unowned revision"]);
}

#[test]
fn a_wrong_value_is_found() {
    let mut operations = valid();
    operations[1] = read(2, (20, 30), Some(state("z", 1, 2, 2)), 2);
    assert_eq!(rules(&operations, &log()), ["wrong answer"]);
}

#[test]
fn a_write_of_unknown_fate_takes_its_place_in_the_log() {
    let mut operations = valid();
    operations[2].outcome = Outcome::Unknown;
    assert!(rules(&operations, &log()).is_empty());
}

#[test]
fn a_failed_write_may_not_stand_in_the_log() {
    let mut operations = valid();
    operations[2].outcome = Outcome::Fail;
    assert!(rules(&operations, &log()).contains(&"failed write happened"));
}

#[test]
fn two_writes_may_not_share_a_revision() {
    let mut operations = valid();
    operations[2] = write(4, (40, 50), "b", 2);
    assert!(rules(&operations, &log()).contains(&"two writes at one revision"));
}

#[test]
fn a_cas_that_ignored_its_condition_is_found() {
    let mut operations = valid();
    operations[2] =
        operation(4, (40, 50), Call::Cas { expected: 7, value: "b".to_owned() }, Answer::Swapped, 3);
    assert_eq!(rules(&operations, &log()), ["wrong answer", "wrong write in the log"]);
}

#[test]
fn a_revision_that_holds_nothing_is_found() {
    let mut log = log();
    log[1].revision = 5;
    log[1].state = Some(state("b", 2, 2, 5));
    let operations = [write(0, (0, 10), "a", 2), write(2, (40, 50), "b", 5)];
    assert!(rules(&operations, &log).is_empty());
    let found = |from, log: &[LogEntry], operations: &[Operation]| {
        gaps(from, &exchanges(operations), &Versions::new(log))
            .into_iter()
            .map(|violation| violation.sentence)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        found(1, &log, &operations),
        ["no log shows a change of the revisions 3 to 4, and #2 (write b to k at n1) was answered at 5"]
    );
    // What came before the run, or behind all that it knows, is not its business.
    assert!(found(5, &log, &operations).is_empty());
    assert!(found(1, &log, &operations[..1]).is_empty());
    assert_eq!(found(1, &log[..1], &operations).len(), 1);
}

#[test]
fn gaps_count_where_the_log_is_that_of_the_whole_store() {
    let event = |index, kind, process, f, value, rev| {
        let key = (f == Function::Write).then(|| "k".to_owned());
        Event {
            index,
            time: index,
            kind,
            process,
            f,
            key,
            value,
            node: Some("n1".to_owned()),
            rev,
            error: None,
        }
    };
    let found = |is_whole: bool, shown_from: i64| {
        let client = Process::Client(0);
        let audit = json!({ "from": 1, "whole": is_whole, "shown_from": shown_from });
        let events = vec![
            event(0, EventKind::Invoke, client, Function::Write, json!({ "value": "b" }), None),
            event(1, EventKind::Ok, client, Function::Write, json!("written"), Some(5)),
            event(2, EventKind::Info, Process::NEMESIS, Function::Audit, audit, None),
        ];
        let entry = LogEntry { revision: 5, key: "k".to_owned(), state: Some(state("b", 1, 5, 5)) };
        let record = Record { events, logs: vec![("n1".to_owned(), vec![entry])], live: Vec::new() };
        let opinion = opinion(&record).unwrap().unwrap();
        let rules: Vec<&str> = opinion.violations.iter().map(|violation| violation.rule).collect();
        (rules, opinion.unknown.len())
    };
    assert_eq!(found(true, 1), (vec!["empty revision"], 0));
    assert_eq!(found(false, 1), (vec![], 0));
    // What was compacted before anybody had shown it is not known.
    assert_eq!(found(true, 5), (vec![], 1));
}

#[test]
fn a_transaction_that_does_nothing_may_be_answered_with_what_is_old() {
    let found = |then: Vec<Request>| {
        let mut history = exchanges(&valid());
        let responses = then.iter().map(|_| Response::Range { rows: Vec::new(), count: 0 }).collect();
        let response = Response::Txn { succeeded: true, responses };
        let request = Request::Txn(Txn { then, ..Txn::default() });
        let end = ExchangeEnd::Ok { response, revision: 2, returned_at: 90 };
        history.push(Exchange { index: 8, request, invoked_at: 80, end, ..history[0].clone() });
        let violations = check(&history, &[], &Versions::new(&log())).err().unwrap_or_default();
        violations.into_iter().map(|violation| violation.rule).collect::<Vec<_>>()
    };
    let read = |serializable| Request::Range(Range { key: "z".to_owned(), serializable, ..Range::default() });
    assert_eq!(found(vec![]), [""; 0]);
    assert_eq!(found(vec![read(true)]), [""; 0]);
    assert_eq!(found(vec![read(true), read(false)]), ["stale read"]);
}

#[test]
fn what_the_lock_service_writes_for_a_caller_is_owned_once_and_no_more() {
    let entry = |revision| LogEntry {
        revision,
        key: "lk/1f".to_owned(),
        state: Some(KeyState { lease: 31, ..state("", 1, revision, revision) }),
    };
    let call = |end| LockCall { index: 8, name: "lk".to_owned(), lease: 31, invoked_at: 80, end };
    let rules = |end, revisions: &[i64]| {
        let log: Vec<LogEntry> = log().into_iter().chain(revisions.iter().map(|at| entry(*at))).collect();
        let violations = check(&exchanges(&valid()), &[call(end)], &Versions::new(&log)).err();
        violations.unwrap_or_default().iter().map(|violation| violation.rule).collect::<Vec<_>>()
    };
    assert_eq!(rules(LockEnd::Unknown, &[4]), [""; 0]);
    assert_eq!(rules(LockEnd::Unknown, &[4, 5]), ["unowned revision"]);
    assert_eq!(rules(LockEnd::Fail, &[4]), ["unowned revision"]);
}
