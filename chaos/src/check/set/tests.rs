//! Valid sets pass; each way of breaking one is named.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::check::Record;
use crate::check::set::opinion;
use crate::history::{Event, EventKind, Function, Process};
use serde_json::{Value, json};

/// One request from `span.0` to `span.1`; `None` is an answer that did not come.
fn request(events: &mut Vec<Event>, span: (u64, u64), asked: Value, answer: Option<Value>) {
    let process = Process::Client(u32::try_from(events.len()).unwrap());
    let event = |time, kind, value, rev| Event {
        index: 0,
        time,
        kind,
        process,
        f: Function::Kv,
        key: None,
        value,
        node: None,
        rev,
        error: None,
    };
    events.push(event(span.0, EventKind::Invoke, asked, None));
    match answer {
        Some(Value::Null) => events.push(event(span.1, EventKind::Fail, Value::Null, None)),
        Some(answer) => events.push(event(span.1, EventKind::Ok, answer, Some(9))),
        None => events.push(event(span.1, EventKind::Info, Value::Null, None)),
    }
}

fn add(events: &mut Vec<Event>, span: (u64, u64), element: &str, answer: Option<Value>) {
    request(events, span, json!({"put": {"key": format!("set/each/1/{element}"), "value": element}}), answer);
}

fn remove(events: &mut Vec<Event>, span: (u64, u64), element: &str) {
    let asked = json!({"delete": {"key": format!("set/each/1/{element}")}});
    request(events, span, asked, Some(json!({"delete": {"deleted": 1, "prev": []}})));
}

fn grow(events: &mut Vec<Event>, span: (u64, u64), list: &str, succeeded: bool) {
    let put = json!({"put": {"key": "set/one/1", "value": list}});
    let responses = if succeeded { json!([{"put": {"prev": null}}]) } else { json!([]) };
    let asked = json!({"txn": {"if": [], "then": [put], "else": []}});
    request(events, span, asked, Some(json!({"txn": {"succeeded": succeeded, "responses": responses}})));
}

fn row(key: &str, value: &str) -> Value {
    json!({"key": key, "value": value, "version": 1, "create_revision": 2, "mod_revision": 2})
}

fn read_each(events: &mut Vec<Event>, span: (u64, u64), elements: &[&str]) {
    let rows: Vec<Value> =
        elements.iter().map(|element| row(&format!("set/each/1/{element}"), element)).collect();
    let asked = json!({"range": {"key": "set/each/1/", "end": "set/each/10"}});
    request(events, span, asked, Some(json!({"range": {"rows": rows, "count": rows.len()}})));
}

fn read_one(events: &mut Vec<Event>, span: (u64, u64), list: &str) {
    let answer = json!({"range": {"rows": [row("set/one/1", list)], "count": 1}});
    request(events, span, json!({"range": {"key": "set/one/1"}}), Some(answer));
}

fn done() -> Option<Value> {
    Some(json!({"put": {"prev": null}}))
}

fn rules(mut events: Vec<Event>) -> Vec<&'static str> {
    for (index, event) in (0..).zip(&mut events) {
        event.index = index;
    }
    let opinion = opinion(&Record::of_events(events)).unwrap().unwrap();
    opinion.violations.into_iter().map(|violation| violation.rule).collect()
}

fn history(make: impl FnOnce(&mut Vec<Event>)) -> Vec<&'static str> {
    let mut events = Vec::new();
    make(&mut events);
    rules(events)
}

#[test]
fn a_valid_set_passes() {
    let found = history(|events| {
        add(events, (0, 10), "a", done());
        add(events, (5, 60), "b", None);
        add(events, (5, 20), "c", Some(Value::Null));
        read_each(events, (30, 40), &["a", "b"]);
        remove(events, (50, 60), "a");
        // While it is being removed it may be seen or not.
        read_each(events, (55, 58), &["a", "b"]);
        read_each(events, (56, 59), &["b"]);
        read_each(events, (70, 80), &["b"]);
        grow(events, (0, 10), "1", true);
        grow(events, (11, 20), "1 2", true);
        grow(events, (12, 25), "1 3", false);
        read_one(events, (30, 40), "1 2");
    });
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_lost_element_is_found() {
    let lost = history(|events| {
        add(events, (0, 10), "a", done());
        read_each(events, (20, 30), &[]);
    });
    assert_eq!(lost, ["lost element"]);
    let lost = history(|events| {
        grow(events, (0, 10), "1", true);
        grow(events, (11, 20), "1 2", true);
        read_one(events, (30, 40), "1");
    });
    assert_eq!(lost, ["lost element"]);
}

#[test]
fn what_was_seen_once_stays_whatever_became_of_the_adding() {
    let found = history(|events| {
        add(events, (0, 10), "a", None);
        read_each(events, (20, 30), &["a"]);
        read_each(events, (25, 35), &[]);
        read_each(events, (40, 50), &[]);
    });
    assert_eq!(found, ["lost element"]);
}

#[test]
fn a_removed_element_stays_away() {
    let found = history(|events| {
        add(events, (0, 10), "a", done());
        remove(events, (20, 30), "a");
        read_each(events, (40, 50), &["a"]);
    });
    assert_eq!(found, ["back from the dead"]);
}

#[test]
fn what_failed_or_was_never_added_is_not_there() {
    let found = history(|events| {
        add(events, (0, 10), "a", Some(Value::Null));
        read_each(events, (20, 30), &["a", "z"]);
    });
    assert_eq!(found, ["failed element is there", "element from nowhere"]);
    let found = history(|events| {
        grow(events, (0, 10), "1", false);
        read_one(events, (20, 30), "1");
    });
    assert_eq!(found, ["failed element is there"]);
}

#[test]
fn an_element_is_there_once() {
    let found = history(|events| {
        grow(events, (0, 10), "1", true);
        read_one(events, (20, 30), "1 1");
    });
    assert_eq!(found, ["element twice"]);
}

/// Adds, removes and reads one behind the other; a read shows all that is there, but for what `forgotten` says.
fn sequence(seed: u64, forgotten: Option<usize>) -> (Vec<&'static str>, usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut there: Vec<String> = Vec::new();
    let mut shown = 0;
    let found = history(|events| {
        for number in 0..40 {
            let span = (10 * number, 10 * number + 5);
            match random.random_range(0..4_u8) {
                0 | 1 => {
                    let element = number.to_string();
                    add(events, span, &element, done());
                    there.push(element);
                }
                2 if !there.is_empty() => {
                    let element = there.swap_remove(random.random_range(0..there.len()));
                    remove(events, span, &element);
                }
                _ => {
                    let mut elements: Vec<&str> = there.iter().map(String::as_str).collect();
                    if let Some(place) = forgotten.and_then(|at| at.checked_sub(shown))
                        && place < elements.len()
                    {
                        elements.remove(place);
                    }
                    shown += there.len();
                    read_each(events, span, &elements);
                }
            }
        }
    });
    (found, shown)
}

#[test]
fn no_element_of_a_valid_read_can_be_left_out_unseen() {
    for seed in 0..20 {
        let (found, shown) = sequence(seed, None);
        assert!(found.is_empty(), "seed {seed}: {found:?}");
        for forgotten in 0..shown {
            assert_eq!(sequence(seed, Some(forgotten)).0, ["lost element"], "seed {seed}, {forgotten}");
        }
    }
}
