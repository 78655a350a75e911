//! A valid record passes; each broken promise is found by its name.

use serde_json::json;

use super::super::example::{Example, done};
use super::*;
use crate::history::Written;

pub(super) fn deployment(generation: i64, observed: i64, replicas: i64) -> Value {
    json!({
        "metadata": { "uid": "D", "generation": generation },
        "spec": { "replicas": replicas },
        "status": { "observedGeneration": observed },
    })
}

pub(super) fn set(generation: i64, observed: i64, replicas: i64) -> Value {
    let mut set = deployment(generation, observed, replicas);
    set["metadata"]["uid"] = json!("S");
    set["metadata"]["ownerReferences"] = json!([{ "uid": "D" }]);
    set
}

pub(super) fn pod(is_ready: bool, is_deleting: bool) -> Value {
    let mut pod = json!({ "metadata": { "ownerReferences": [{ "uid": "S" }] } });
    if is_ready {
        pod["status"] = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
    }
    if is_deleting {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    pod
}

/// Scaled to five, then down to three, and back to five.
pub(super) fn valid() -> Example {
    let mut example = Example::judged_by(opinion).within(NAMESPACE);
    let written = || Written { namespace: NAMESPACE.to_owned(), ..Written::default() };
    for at in [10, 30, 50] {
        example.call(0, &ApiCall::Patch(written()), done(at, json!({})));
    }
    let mut at = 10;
    let mut put = |resource, name: &str, object| {
        example.object(at, resource, name, object);
        at += 1;
    };
    put(Resource::Deployments, "d", Some(deployment(1, 0, 5)));
    put(Resource::ReplicaSets, "s", Some(set(1, 0, 5)));
    for number in 0..5 {
        put(Resource::Pods, &format!("p{number}"), Some(pod(false, false)));
        put(Resource::Pods, &format!("p{number}"), Some(pod(true, false)));
    }
    put(Resource::ReplicaSets, "s", Some(set(1, 1, 5)));
    put(Resource::Deployments, "d", Some(deployment(2, 1, 3)));
    put(Resource::ReplicaSets, "s", Some(set(2, 1, 3)));
    for number in 3..5 {
        put(Resource::Pods, &format!("p{number}"), Some(pod(true, true)));
        put(Resource::Pods, &format!("p{number}"), None);
    }
    put(Resource::ReplicaSets, "s", Some(set(2, 2, 3)));
    put(Resource::Deployments, "d", Some(deployment(2, 2, 3)));
    example.settle();
    example
}

#[test]
fn a_valid_history_passes() {
    assert_eq!(valid().rules(), [""; 0]);
}

#[test]
fn a_pod_too_many_is_found_once_its_controller_has_seen_the_new_number() {
    let mut overshoot = valid();
    overshoot.object(60, Resource::Pods, "p9", Some(pod(true, false)));
    assert_eq!(overshoot.rules(), ["too many pods", "not what was wanted"]);

    // A controller that has not seen the smaller number yet may still make the fifth.
    let mut late = valid();
    let smaller = late.log.iter().rposition(|entry| entry.key.ends_with("/s")).unwrap();
    late.log[smaller].state.as_mut().unwrap().value = set(2, 1, 3).to_string();
    late.object(60, Resource::Pods, "p9", Some(pod(true, false)));
    assert_eq!(late.rules(), ["not what was wanted"]);
}

#[test]
fn replica_sets_that_ask_for_more_than_the_surge_are_found() {
    let other = |replicas| {
        let mut other = set(1, 1, replicas);
        other["metadata"]["uid"] = json!("T");
        other
    };
    let mut within = valid();
    within.object(60, Resource::ReplicaSets, "t", Some(other(1)));
    assert_eq!(within.rules(), [""; 0], "three and a quarter, rounded up");
    let mut beyond = valid();
    beyond.object(60, Resource::ReplicaSets, "t", Some(other(2)));
    assert_eq!(beyond.rules(), ["beyond the surge"]);
}

#[test]
fn what_is_missing_or_not_ready_in_the_end_is_found() {
    let mut missing = valid();
    missing.object(60, Resource::Pods, "p0", None);
    assert_eq!(missing.rules(), ["not what was wanted"]);
    let mut unready = valid();
    unready.object(60, Resource::Pods, "p0", Some(pod(false, false)));
    assert_eq!(unready.rules(), ["not ready"]);
}

#[test]
fn a_wait_in_vain_is_found() {
    let mut example = valid();
    let end = example.events.last_mut().unwrap();
    (end.kind, end.error) = (crate::history::EventKind::Fail, Some("1 is ready".to_owned()));
    assert_eq!(example.rules(), ["no convergence"]);
}
