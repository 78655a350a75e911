//! A valid record passes; each broken promise is found by its name.

use serde_json::json;

use super::super::example::{Example, done, refused};
use super::*;
use crate::history::Named;

pub(super) fn object(revision: i64, list: &str) -> Value {
    json!({ "metadata": { "name": "a", "resourceVersion": revision.to_string() }, "data": { "list": list } })
}

pub(super) fn write(object: Value) -> Written {
    let (namespace, name) = (NAMESPACE.to_owned(), "a".to_owned());
    Written { namespace, name, object, ..Written::default() }
}

pub(super) fn read() -> ApiCall {
    ApiCall::Get(Named { namespace: NAMESPACE.to_owned(), name: "a".to_owned(), ..Named::default() })
}

/// Creates a list and appends to it, one element after the other.
pub(super) fn valid() -> Example {
    let mut example = Example::judged_by(|record| opinion(record, Limits::default()));
    let mut list = "1".to_owned();
    let mut at = 10;
    example.call(0, &ApiCall::Create(write(json!({ "data": { "list": "1" } }))), done(at, object(at, &list)));
    example.log(at, "/registry/configmaps/k-occ/a", Some(object(at, &list)));
    for tag in 2..=11 {
        example.call(1, &read(), done(at, object(at, &list)));
        let before = at;
        list = format!("{list} {tag}");
        at += 3;
        let update = ApiCall::Update(write(object(before, &list)));
        example.call(0, &update, done(at, object(at, &list)));
        example.log(at, "/registry/configmaps/k-occ/a", Some(object(at, &list)));
        let late = ApiCall::Update(write(object(before, &format!("{list} {}", 100 + tag))));
        example.call(2, &late, refused(409, "Conflict"));
    }
    example.call(1, &read(), done(at, object(at, &list)));
    example
}

/// Changes the answer of the n-th event, counted from the end.
pub(super) fn answer(example: &mut Example, from_end: usize, value: Value) {
    let place = example.events.len() - from_end;
    example.events[place].value = value;
}

#[test]
fn a_valid_history_passes() {
    assert_eq!(valid().rules(), [""; 0]);
}

#[test]
fn each_broken_promise_is_found_by_its_name() {
    let mut lost = valid();
    let list = "1 2 3 4 5 6 7 8 9 10";
    answer(&mut lost, 1, json!({ "code": 200, "object": object(40, list) }));
    assert!(lost.rules().contains(&"lost update"));

    let mut stale = valid();
    answer(&mut stale, 1, json!({ "code": 200, "object": object(37, "1 2 3 4 5 6 7 8 9 10") }));
    assert!(stale.rules().contains(&"stale read"));

    let mut twice = valid();
    answer(&mut twice, 1, json!({ "code": 200, "object": object(40, "1 2 3 4 5 6 7 8 9 10 11 11") }));
    assert!(twice.rules().contains(&"element twice"));

    let mut shown = valid();
    answer(&mut shown, 1, json!({ "code": 200, "object": object(40, "1 2 3 4 5 6 7 8 9 10 11 111") }));
    assert!(shown.rules().contains(&"refused update was done"));
}

/// What a server does that ignores the resourceVersion of an update.
#[test]
fn an_update_of_what_is_old_is_found() {
    let mut ignored = valid();
    let list = "1 2 3 4 5 6 7 8 9 10 111";
    answer(&mut ignored, 3, json!({ "code": 200, "revision": 43, "object": object(43, list) }));
    answer(&mut ignored, 1, json!({ "code": 200, "object": object(43, list) }));
    ignored.log(43, "/registry/configmaps/k-occ/a", Some(object(43, list)));
    let found = ignored.rules();
    for rule in
        ["two updates of one version", "lost update", "stale update succeeded", "update lost something"]
    {
        assert!(found.contains(&rule), "{rule}: {found:?}");
    }
}

#[test]
fn what_the_log_does_not_show_is_found() {
    let mut gone = valid();
    gone.log.pop();
    assert!(gone.rules().contains(&"not what the log shows"));
}

#[test]
fn a_run_without_conflicts_shows_nothing() {
    let mut example = Example::judged_by(|record| opinion(record, Limits::default()));
    example.call(0, &ApiCall::Create(write(json!({ "data": { "list": "1" } }))), done(10, object(10, "1")));
    example.log(10, "/registry/configmaps/k-occ/a", Some(object(10, "1")));
    let opinion = example.opinion();
    assert_eq!((opinion.violations.len(), opinion.unknown.len()), (0, 2), "{:?}", opinion.unknown);
}
