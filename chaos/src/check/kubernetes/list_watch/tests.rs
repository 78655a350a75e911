//! A valid record passes; each broken promise is found by its name.

use serde_json::{Value, json};

use super::super::example::Example;
use super::*;
use crate::history::{ApiAnswer, Face};

pub(super) const INFORMER: u32 = 50;

pub(super) fn event(kind: &str, name: &str, revision: i64) -> Informed {
    Informed::Event(ShownEvent { kind: kind.to_owned(), name: name.to_owned(), revision })
}

pub(super) fn key(name: &str) -> String {
    format!("/registry/configmaps/k-listwatch/{name}")
}

pub(super) fn item(name: &str, revision: i64) -> Value {
    json!({ "metadata": { "name": name, "resourceVersion": revision.to_string() } })
}

pub(super) fn list(example: &mut Example, version: &str, answer: (i64, Vec<Value>)) {
    let (namespace, resource_version) = (NAMESPACE.to_owned(), version.to_owned());
    let listing = Listing { namespace, resource_version, ..Listing::default() };
    let (revision, items) = answer;
    let answer = ApiAnswer { code: 200, revision, items, ..ApiAnswer::default() };
    example.call(7, &ApiCall::List(listing), Some(answer));
}

/// The places of what is told in `valid`, after the list that comes first.
pub(super) const LISTED: usize = 2;
pub(super) const FIRST: usize = 4;
pub(super) const BOOKMARK: usize = 9;
pub(super) const ENDED: usize = 10;
pub(super) const REOPENED: usize = 11;
pub(super) const DELETED: usize = 13;

/// An object from before, five from the first watch with a bookmark, and the rest from a second one.
pub(super) fn valid() -> Example {
    let mut example = Example::judged_by(opinion);
    example.log(5, &key("old"), Some(json!({})));
    list(&mut example, "", (8, vec![item("old", 5)]));
    example.inform(INFORMER, &Informed::Listed { revision: 8, items: vec![("old".to_owned(), 5)] });
    example.inform(INFORMER, &Informed::Opened { from: 8, face: Face::Rest });
    for number in 0..5 {
        let (name, at) = (format!("a{number}"), 10 + number);
        example.log(at, &key(&name), Some(json!({})));
        example.inform(INFORMER, &event("ADDED", &name, at));
    }
    example.inform(INFORMER, &Informed::Bookmark { revision: 20 });
    example.inform(INFORMER, &Informed::Ended { why: "cut".to_owned() });
    example.inform(INFORMER, &Informed::Opened { from: 20, face: Face::Rest });
    example.log(21, &key("a1"), Some(json!({ "data": {} })));
    example.inform(INFORMER, &event("MODIFIED", "a1", 21));
    example.log(22, &key("a2"), None);
    example.inform(INFORMER, &event("DELETED", "a2", 22));
    for number in 5..9 {
        let (name, at) = (format!("a{number}"), 20 + number);
        example.log(at, &key(&name), Some(json!({})));
        example.inform(INFORMER, &event("ADDED", &name, at));
    }
    example.inform(INFORMER, &Informed::Awaits { revision: 28 });
    example
}

#[test]
fn a_valid_history_passes() {
    assert_eq!(valid().rules(), [""; 0]);
}

#[test]
fn each_way_of_being_wrong_is_found_by_its_name() {
    let with = |place: usize, informed: &Informed| {
        let mut example = valid();
        example.events[place].value = json!(informed);
        example.rules()
    };
    let without = |place: usize| {
        let mut example = valid();
        example.events.remove(place);
        example.rules()
    };
    assert_eq!(without(FIRST), ["missed event"]);
    assert_eq!(without(BOOKMARK - 1), ["bookmark ahead of events"]);
    assert_eq!(with(FIRST + 1, &event("ADDED", "a0", 10)), ["event twice or late"]);
    assert_eq!(with(BOOKMARK, &Informed::Bookmark { revision: 9 }), ["bookmark went back"]);
    assert_eq!(with(REOPENED + 1, &event("ADDED", "a1", 21)), ["event of another type"]);
    assert_eq!(with(REOPENED + 1, &event("MODIFIED", "a3", 21)), ["event from nowhere"]);
    assert_eq!(with(DELETED, &event("MODIFIED", "a2", 22)), ["event of another type"]);
    let relisted = Informed::Listed { revision: 7, items: Vec::new() };
    assert_eq!(with(ENDED, &relisted), ["informer went back"]);
    let other = Informed::Listed { revision: 8, items: Vec::new() };
    assert_eq!(with(LISTED, &other), ["informer differs"]);
}

#[test]
fn an_event_behind_a_bookmark_is_found() {
    let mut example = valid();
    example.events[BOOKMARK].value = json!(Informed::Bookmark { revision: 20 });
    example.events[REOPENED + 1].value = json!(event("MODIFIED", "a1", 19));
    assert_eq!(example.rules(), ["event twice or late"]);
}

#[test]
fn an_informer_that_is_not_shown_its_own_object_has_stalled() {
    let mut example = valid();
    example.event(INFORMER, Function::Inform, EventKind::Fail, Value::Null);
    assert_eq!(example.rules(), ["informer stalled"]);
    let mut cut = valid();
    cut.events.pop();
    let opinion = cut.opinion();
    assert!(opinion.unknown[0].contains("did not come to its end"), "{:?}", opinion.unknown);
}

#[test]
fn lists_are_states_and_as_new_as_they_were_asked_to_be() {
    let all = || vec![item("a0", 10), item("a1", 11), item("old", 5)];
    let with = |version: &str, answer| {
        let mut example = valid();
        list(&mut example, version, answer);
        example.rules()
    };
    assert_eq!(with("", (11, all())), [""; 0]);
    assert_eq!(with("", (10, all())), ["list is not the state"]);
    assert_eq!(with("12", (11, all())), ["list of another revision"]);
    assert_eq!(with("0", (11, all())), [""; 0]);

    let mut stale = valid();
    let written = crate::history::Written { namespace: NAMESPACE.to_owned(), ..Default::default() };
    let answer = ApiAnswer { code: 200, revision: 28, ..ApiAnswer::default() };
    stale.call(8, &ApiCall::Create(written), Some(answer));
    list(&mut stale, "", (11, all()));
    assert_eq!(stale.rules(), ["stale list"]);
}
