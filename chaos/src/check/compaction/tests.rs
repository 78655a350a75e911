//! Right answers pass; each wrong one is named.

use serde_json::json;

use super::*;

/// Events of one process each, from `span.0` to `span.1`; an error says that it was refused.
fn call(
    events: &mut Vec<Event>,
    span: (u64, u64),
    f: Function,
    asked: Value,
    end: Result<(Value, i64), &str>,
) {
    let process = Process::Client(u32::try_from(events.len()).unwrap());
    let index = u64::try_from(events.len()).unwrap();
    let event = |index, time, kind, value, rev, error| Event {
        index,
        time,
        kind,
        process,
        f,
        key: None,
        value,
        node: None,
        rev,
        error,
    };
    events.push(event(index, span.0, EventKind::Invoke, asked, None, None));
    events.push(match end {
        Ok((answer, rev)) => event(index + 1, span.1, EventKind::Ok, answer, Some(rev), None),
        Err(error) => event(index + 1, span.1, EventKind::Fail, Value::Null, None, Some(error.to_owned())),
    });
}

pub(super) fn compact(events: &mut Vec<Event>, span: (u64, u64), revision: i64, end: Result<i64, &str>) {
    let asked = json!({ "revision": revision });
    call(events, span, Function::Compact, asked, end.map(|shown| (Value::Null, shown)));
}

pub(super) fn read(events: &mut Vec<Event>, span: (u64, u64), revision: i64, end: Result<i64, &str>) {
    let asked = json!({"range": {"key": "k", "revision": revision}});
    let answer = json!({"range": {"rows": [], "count": 0}});
    call(events, span, Function::Kv, asked, end.map(|shown| (answer, shown)));
}

/// A transaction that writes and reads at a revision.
pub(super) fn txn(events: &mut Vec<Event>, span: (u64, u64), revision: i64, end: Result<i64, &str>) {
    let put = json!({"put": {"key": "k", "value": format!("v{}", events.len())}});
    let then = json!([put, {"range": {"key": "k", "revision": revision}}]);
    let asked = json!({"txn": {"if": [], "then": then, "else": []}});
    let answers = json!([{"put": {"prev": null}}, {"range": {"rows": [], "count": 0}}]);
    let answer = json!({"txn": {"succeeded": true, "responses": answers}});
    call(events, span, Function::Kv, asked, end.map(|shown| (answer, shown)));
}

/// A watch that shows changes of some revisions and is ended as compacted.
pub(super) fn ended(events: &mut Vec<Event>, span: (u64, u64), from: i64, shown: &[i64], compacted: i64) {
    let process = Process::Client(u32::try_from(events.len()).unwrap());
    let mut event = |time, f, kind, value, rev| {
        let index = u64::try_from(events.len()).unwrap();
        let (key, node, error) = (None, None, None);
        events.push(Event { index, time, kind, process, f, key, value, node, rev, error });
    };
    let asked = json!({"key": "k", "from": from});
    event(span.0, Function::Watch, EventKind::Invoke, asked, None);
    event(span.0, Function::Watch, EventKind::Ok, Value::Null, Some(50));
    for revision in shown {
        let deleted = json!({"revision": revision, "key": "k", "state": null});
        event(span.0, Function::Notice, EventKind::Ok, json!({ "events": [deleted] }), Some(*revision));
    }
    let end = json!({"canceled": "", "compacted": compacted});
    event(span.1, Function::Notice, EventKind::Ok, end, Some(0));
}

fn rules(make: impl FnOnce(&mut Vec<Event>)) -> Vec<&'static str> {
    let mut events = Vec::new();
    // Everybody knows that there are a hundred revisions, and that ten are forgotten.
    read(&mut events, (0, 1), 100, Ok(100));
    compact(&mut events, (2, 10), 10, Ok(100));
    make(&mut events);
    let opinion = opinion(&Record::of_events(events)).unwrap().unwrap();
    opinion.violations.into_iter().map(|violation| violation.rule).collect()
}

pub(super) const GONE: &str = "OutOfRange: etcdserver: mvcc: required revision has been compacted";
pub(super) const TO_COME: &str = "OutOfRange: etcdserver: mvcc: required revision is a future revision";

#[test]
fn right_answers_pass() {
    let found = rules(|events| {
        // While a compaction is under way both answers are right.
        read(events, (3, 4), 5, Ok(100));
        read(events, (5, 6), 5, Err(GONE));
        read(events, (20, 21), 9, Err(GONE));
        read(events, (20, 21), 10, Ok(100));
        read(events, (20, 21), 101, Err(TO_COME));
        read(events, (20, 21), 10, Err("Unavailable: etcdserver: no leader"));
        compact(events, (20, 21), 10, Err(GONE));
        compact(events, (22, 23), 11, Ok(100));
        compact(events, (24, 25), 200, Err(TO_COME));
        txn(events, (26, 27), 11, Ok(101));
        txn(events, (26, 27), 9, Err(GONE));
        txn(events, (26, 27), 102, Err(TO_COME));
        ended(events, (28, 29), 9, &[], 10);
        ended(events, (28, 29), 2, &[3, 7], 10);
        compact(events, (30, 40), 60, Ok(101));
        // It shows what comes behind revision 50, and is slow.
        ended(events, (35, 36), 0, &[55], 60);
    });
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn each_wrong_answer_is_named() {
    let of_read = |revision, end| rules(|events| read(events, (20, 21), revision, end));
    assert_eq!(of_read(9, Ok(100)), ["forgotten answered"]);
    assert_eq!(of_read(101, Ok(100)), ["future answered"]);
    assert_eq!(of_read(10, Err(GONE)), ["refused as compacted"]);
    assert_eq!(of_read(100, Err(TO_COME)), ["refused as future"]);
    assert_eq!(of_read(9, Err("OutOfRange: no such revision")), ["wrong error"]);
    let of_txn = |revision, end| rules(|events| txn(events, (20, 21), revision, end));
    assert_eq!(of_txn(9, Ok(101)), ["forgotten answered"]);
    assert_eq!(of_txn(102, Ok(101)), ["future answered"]);
    assert_eq!(of_txn(10, Err(GONE)), ["refused as compacted"]);
    assert_eq!(of_txn(100, Err(TO_COME)), ["refused as future"]);
    let of_watch = |from, shown: &[i64], at| rules(|events| ended(events, (20, 21), from, shown, at));
    assert_eq!(of_watch(10, &[], 10), ["ended as compacted"]);
    assert_eq!(of_watch(5, &[9], 10), ["ended as compacted"]);
    assert_eq!(of_watch(0, &[], 10), ["ended as compacted"]);
    assert_eq!(of_watch(5, &[], 11), ["ended as compacted"]);
    let of_compaction = |revision, end| rules(|events| compact(events, (20, 21), revision, end));
    assert_eq!(of_compaction(10, Ok(100)), ["forgotten answered"]);
    assert_eq!(of_compaction(101, Ok(100)), ["future answered"]);
    assert_eq!(of_compaction(11, Err(GONE)), ["refused as compacted"]);
    assert_eq!(of_compaction(99, Err(TO_COME)), ["refused as future"]);
}
