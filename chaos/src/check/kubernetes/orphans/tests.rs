//! A valid record passes; each broken promise is found by its name.

use serde_json::json;

use super::super::example::{Example, done};
use super::*;

pub(super) fn key(name: &str) -> String {
    format!("/registry/configmaps/k-orphans/{name}")
}

pub(super) fn object(name: &str, owner: Option<&str>, finalizer: Option<&str>) -> Option<Value> {
    let mut metadata = json!({ "name": name, "uid": format!("uid-{name}") });
    if let Some(owner) = owner {
        metadata["ownerReferences"] = json!([{ "uid": format!("uid-{owner}"), "blockOwnerDeletion": true }]);
    }
    if let Some(finalizer) = finalizer {
        metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        metadata["finalizers"] = json!([finalizer]);
    }
    Some(json!({ "metadata": metadata }))
}

pub(super) fn fell(example: &mut Example, name: &str, propagation: &str) {
    let (namespace, name) = (NAMESPACE.to_owned(), name.to_owned());
    let propagation = Some(propagation.to_owned());
    let removal = Removal { namespace, name, propagation, ..Removal::default() };
    example.call(0, &ApiCall::Delete(removal), done(0, Value::Null));
}

/// Four owners with two dependents each: one stands, and one goes under each policy.
pub(super) fn valid() -> Example {
    let mut example = Example::judged_by(opinion);
    let mut at = 10;
    let mut put = |example: &mut Example, name: &str, object| {
        example.log(at, &key(name), object);
        at += 1;
    };
    for owner in ["s", "b", "f", "o"] {
        put(&mut example, owner, object(owner, None, None));
        for number in 0..2 {
            let name = format!("{owner}{number}");
            put(&mut example, &name, object(&name, Some(owner), None));
        }
    }
    fell(&mut example, "b", "Background");
    for gone in ["b", "b0", "b1"] {
        put(&mut example, gone, None);
    }
    fell(&mut example, "f", "Foreground");
    put(&mut example, "f", object("f", None, Some("foregroundDeletion")));
    for gone in ["f0", "f1", "f"] {
        put(&mut example, gone, None);
    }
    fell(&mut example, "o", "Orphan");
    put(&mut example, "o", object("o", None, Some("orphan")));
    for free in ["o0", "o1"] {
        put(&mut example, free, object(free, None, None));
    }
    put(&mut example, "o", None);
    example.settle();
    example
}

pub(super) fn with(name: &str, object: Option<Value>) -> Vec<&'static str> {
    let mut example = valid();
    example.log(90, &key(name), object);
    example.rules()
}

#[test]
fn a_valid_history_passes() {
    assert_eq!(valid().rules(), [""; 0]);
}

#[test]
fn each_broken_promise_is_found_by_its_name() {
    assert_eq!(with("s0", None), ["dependent of a living owner was deleted"]);
    assert_eq!(with("s", None), ["deleted by nobody", "orphan is left", "orphan is left"]);
    assert_eq!(with("o0", None), ["orphan was deleted"]);
    assert_eq!(with("late", object("late", Some("b"), None)), ["orphan is left"]);
    assert_eq!(with("s1", object("s1", Some("s"), Some("foregroundDeletion"))), ["stuck"]);
}

#[test]
fn dependents_that_were_not_let_go_are_found() {
    let mut example = valid();
    example.log.retain(|entry| {
        let state = entry.state.as_ref();
        !state.is_some_and(|state| state.value.contains("\"orphan\""))
    });
    assert_eq!(example.rules(), ["orphan policy ignored"]);
}
