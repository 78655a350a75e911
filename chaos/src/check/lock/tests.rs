//! Locks that are good pass; each way of breaking one is named.

use serde_json::{Value, json};

use super::*;
use crate::check::witness::LogEntry;
use crate::history::{Event, EventKind, Function, KeyState, Process};

fn request(events: &mut Vec<Event>, asked: Value, answer: Value) {
    let process = Process::Client(0);
    for (kind, value, rev) in [(EventKind::Invoke, asked, None), (EventKind::Ok, answer, Some(2))] {
        let index = u64::try_from(events.len()).unwrap();
        let (f, key, node, error) = (Function::Kv, None, None, None);
        events.push(Event { index, time: index, kind, process, f, key, value, node, rev, error });
    }
}

fn update(events: &mut Vec<Event>, lock: &str, list: &str) {
    let put = json!({"put": {"key": format!("locked/{lock}/0"), "value": list}});
    request(events, put, json!({"put": {"prev": null}}));
}

fn read(events: &mut Vec<Event>, lock: &str, list: &str) {
    let key = format!("locked/{lock}/0");
    let row = json!({"key": key, "value": list, "version": 1, "create_revision": 2, "mod_revision": 2});
    let answer = json!({"range": {"rows": [row], "count": 1}});
    request(events, json!({"range": {"key": key}}), answer);
}

fn judged(lost_from: &str) -> Opinion {
    let mut events = Vec::new();
    for lock in ["fenced", "unfenced"] {
        update(&mut events, lock, "1");
        read(&mut events, lock, "1");
        update(&mut events, lock, if lock == lost_from { "2" } else { "1 2" });
        read(&mut events, lock, if lock == lost_from { "2" } else { "1 2" });
    }
    opinion(&Record::of_events(events)).unwrap().unwrap()
}

#[test]
fn nothing_is_lost_under_a_good_lock() {
    assert!(judged("").violations.is_empty());
}

#[test]
fn a_lost_update_under_the_fenced_lock_is_a_violation() {
    assert_eq!(judged("fenced").violations[0].rule, "lost update under a lock");
}

#[test]
fn the_unfenced_canary_is_told_and_no_violation() {
    let opinion = judged("unfenced");
    assert!(opinion.violations.is_empty());
    assert_eq!(opinion.counts["unfenced_lost"], 1);
    assert!(opinion.scope.contains("the unfenced canary lost 1 of 2, as documented"), "{}", opinion.scope);
}

const MS: u64 = 1_000_000;

/// Callers of the lock service, with what its log shows.
struct Served {
    record: Record,
}

impl Served {
    /// A list is changed under the fenced lock, too: without one there is nothing to judge.
    fn new() -> Self {
        let mut events = Vec::new();
        update(&mut events, "fenced", "1");
        Self { record: Record { logs: vec![("n1".to_owned(), Vec::new())], ..Record::of_events(events) } }
    }

    fn call(&mut self, span: (u64, u64), f: Function, key: &str, asked: Value, end: (Value, i64)) {
        let (answer, revision) = end;
        let events = &mut self.record.events;
        let process = Process::Client(u32::try_from(events.len()).unwrap());
        for (kind, time, value, rev) in
            [(EventKind::Invoke, span.0, asked, None), (EventKind::Ok, span.1, answer, Some(revision))]
        {
            let index = u64::try_from(events.len()).unwrap();
            let (key, node, error) = (Some(key.to_owned()), None, None);
            events.push(Event { index, time: time * MS, kind, process, f, key, value, node, rev, error });
        }
    }

    /// A lease of two seconds is granted at this time, in milliseconds.
    fn grant(&mut self, at: u64, lease: i64) {
        let (asked, answer) = (json!({ "ttl": 2 }), json!({ "id": lease, "ttl": 2 }));
        self.call((at, at + 1), Function::LeaseGrant, "", asked, (answer, 1));
    }

    fn lock(&mut self, span: (u64, u64), lease: i64, revision: i64) {
        let answer = json!({ "key": format!("lk/{lease:x}") });
        self.call(span, Function::Lock, "lk", json!({ "lease": lease }), (answer, revision));
    }

    fn unlock(&mut self, at: u64, lease: i64) {
        self.call((at, at + 1), Function::Unlock, &format!("lk/{lease:x}"), Value::Null, (Value::Null, 9));
    }

    fn log(&mut self, revision: i64, lease: i64, is_there: bool) {
        let value = String::new();
        let state = KeyState { value, version: 1, create_revision: revision, mod_revision: revision, lease };
        let entry = LogEntry { revision, key: format!("lk/{lease:x}"), state: is_there.then_some(state) };
        self.record.logs[0].1.push(entry);
    }

    fn rules(&self) -> Vec<(&'static str, String)> {
        let violations = opinion(&self.record).unwrap().unwrap().violations;
        violations.into_iter().map(|violation| (violation.rule, violation.sentence)).collect()
    }
}

/// Two callers, one behind the other, the second one from before the first gives the lock back.
fn in_turns() -> Served {
    let mut served = Served::new();
    served.grant(0, 16);
    served.grant(1, 17);
    served.log(2, 16, true);
    served.lock((10, 20), 16, 2);
    served.log(3, 17, true);
    served.log(4, 16, false);
    served.unlock(100, 16);
    served.lock((30, 120), 17, 4);
    served
}

#[test]
fn whoever_waits_has_the_lock_when_it_is_given_back() {
    assert_eq!(in_turns().rules(), []);
}

#[test]
fn a_lock_of_the_service_that_two_hold_is_found() {
    let mut served = in_turns();
    served.record.events.retain(|event| event.f != Function::Unlock);
    let [(rule, sentence)] = &served.rules()[..] else { panic!("{:?}", served.rules()) };
    assert_eq!(*rule, "lock held twice");
    assert!(sentence.contains("both took lk"), "{sentence}");
}

#[test]
fn a_lock_is_not_for_whose_place_in_the_queue_is_gone() {
    let mut served = in_turns();
    served.log(5, 18, true);
    served.grant(200, 18);
    served.unlock(150, 17);
    served.lock((210, 220), 18, 4);
    let [(rule, sentence)] = &served.rules()[..] else { panic!("{:?}", served.rules()) };
    assert_eq!(*rule, "lock of a lost place");
    assert!(
        sentence.ends_with("as of revision 4, at which it was gone, and lk/11 had the lock"),
        "{sentence}"
    );
}

#[test]
fn a_lock_is_not_for_who_is_second_in_the_queue() {
    let mut served = in_turns();
    let mut answers = served.record.events.iter_mut();
    let last = answers.rfind(|event| event.f == Function::Lock && event.kind == EventKind::Ok);
    last.unwrap().rev = Some(3);
    let [(rule, sentence)] = &served.rules()[..] else { panic!("{:?}", served.rules()) };
    assert_eq!(*rule, "lock of a lost place");
    assert!(sentence.ends_with("as of revision 3, at which lk/10 came before it"), "{sentence}");
}
