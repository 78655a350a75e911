//! A valid record passes; each broken promise is found by its name.

use serde_json::json;

use super::super::example::{Example, done, leaving};
use super::*;
use crate::history::{ApiCall, Written};

pub(super) fn pod(uid: &str, node: &str, cpu: &str) -> Value {
    let container = json!({ "name": "c", "resources": { "requests": { "cpu": cpu } } });
    let mut pod = json!({ "metadata": { "uid": uid }, "spec": { "containers": [container] } });
    if !node.is_empty() {
        pod["spec"]["nodeName"] = json!(node);
    }
    pod
}

pub(super) fn ready(mut pod: Value) -> Value {
    pod["status"] = json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] });
    pod
}

/// Two nodes are filled; one of the pods goes, and one that waited takes its room.
pub(super) fn valid() -> Example {
    let mut example = Example::judged_by(opinion).within(NAMESPACE);
    let create = ApiCall::Create(Written { namespace: NAMESPACE.to_owned(), ..Written::default() });
    example.call(0, &create, done(10, json!({})));
    let mut at = 2;
    let mut put = |resource, name: &str, object| {
        example.object(at, resource, name, object);
        at += 1;
    };
    for node in ["a", "b"] {
        put(Resource::Nodes, node, Some(json!({ "status": { "allocatable": { "cpu": "2" } } })));
    }
    for (name, node, cpu) in [("p0", "a", "1500m"), ("p1", "a", "500m"), ("p2", "b", "1"), ("p3", "b", "1")] {
        put(Resource::Pods, name, Some(pod(name, "", cpu)));
        put(Resource::Pods, name, Some(pod(name, node, cpu)));
        put(Resource::Pods, name, Some(ready(pod(name, node, cpu))));
    }
    put(Resource::Pods, "p4", Some(pod("p4", "", "1")));
    put(Resource::Pods, "p2", Some(leaving(ready(pod("p2", "b", "1")))));
    put(Resource::Pods, "p2", None);
    put(Resource::Pods, "p4", Some(pod("p4", "b", "1")));
    put(Resource::Pods, "p4", Some(ready(pod("p4", "b", "1"))));
    example.settle();
    example
}

#[test]
fn a_valid_history_passes() {
    assert_eq!(valid().rules(), [""; 0]);
    assert_eq!(valid().opinion().scope, "5 bindings, at most 100 % of a node were taken");
}

#[test]
fn a_pod_that_moves_is_found_and_another_one_of_its_name_is_not() {
    let mut moved = valid();
    moved.object(60, Resource::Pods, "p1", Some(ready(pod("p1", "b", "0"))));
    assert_eq!(moved.rules(), ["bound twice"]);
    let mut unbound = valid();
    unbound.object(60, Resource::Pods, "p1", Some(ready(pod("p1", "", "0"))));
    assert_eq!(unbound.rules(), ["bound twice"]);
    let mut another = valid();
    another.object(60, Resource::Pods, "p1", None);
    another.object(61, Resource::Pods, "p1", Some(ready(pod("other", "a", "500m"))));
    assert_eq!(another.rules(), [""; 0]);
}

#[test]
fn a_pod_that_has_ended_leaves_its_room_and_one_on_its_way_out_does_not() {
    let with = |first: Value| {
        let mut example = valid();
        example.object(60, Resource::Pods, "p0", Some(first));
        example.object(61, Resource::Pods, "p9", Some(ready(pod("p9", "a", "100m"))));
        example.object(62, Resource::Pods, "p0", None);
        example.rules()
    };
    let mut ended = pod("p0", "a", "1500m");
    ended["status"] = json!({ "phase": "Succeeded" });
    assert_eq!(with(ended), [""; 0]);
    assert_eq!(with(leaving(ready(pod("p0", "a", "1500m")))), ["more than fits"]);
}

#[test]
fn a_run_in_which_no_node_was_full_shows_nothing() {
    let mut roomy = valid();
    for node in ["a", "b"] {
        let large = json!({ "status": { "allocatable": { "cpu": "200" } } });
        roomy.object(1, Resource::Nodes, node, Some(large));
    }
    roomy.log.retain(|entry| !entry.key.contains("minions") || entry.revision == 1);
    assert_eq!(roomy.opinion().unknown, ["1 percent of a node that were taken, at least 80 are needed"]);
}
