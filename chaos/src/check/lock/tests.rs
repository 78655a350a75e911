//! Locks that are good pass; each way of breaking one is named.

use serde_json::{Value, json};

use super::*;
use crate::history::{Event, EventKind, Function, Process};

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
