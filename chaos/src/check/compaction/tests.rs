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
    let of_compaction = |revision, end| rules(|events| compact(events, (20, 21), revision, end));
    assert_eq!(of_compaction(10, Ok(100)), ["forgotten answered"]);
    assert_eq!(of_compaction(101, Ok(100)), ["future answered"]);
    assert_eq!(of_compaction(11, Err(GONE)), ["refused as compacted"]);
    assert_eq!(of_compaction(99, Err(TO_COME)), ["refused as future"]);
}
