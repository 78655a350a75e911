//! A scheduler that does everything right passes; whatever is changed in its record is found.

use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::super::example::{Example, leaving};
use super::tests::{pod, ready, valid};
use crate::check::mutation::{self, Mutation, place};
use crate::history::{EventKind, Resource};

/// Behind all that `valid` logs.
const LATE: i64 = 60;

fn add(example: &mut Example, resource: Resource, name: &str, object: Option<Value>) -> Option<()> {
    example.object(LATE, resource, name, object);
    Some(())
}

/// Draws a version of a pod that holds `what`, and changes it.
fn version(
    example: &mut Example,
    random: &mut StdRng,
    what: impl Fn(&Value) -> bool,
    change: impl Fn(&mut Value),
) -> Option<()> {
    let read = |value: &str| serde_json::from_str::<Value>(value).unwrap();
    let holds = |state: &crate::history::KeyState| what(&read(&state.value));
    let at = place(&example.log, random, |entry| entry.state.as_ref().is_some_and(holds))?;
    let state = example.log[at].state.as_mut()?;
    let mut object = read(&state.value);
    change(&mut object);
    state.value = object.to_string();
    Some(())
}

/// Whether it was bound just now.
fn is_binding(object: &Value) -> bool {
    object.pointer("/spec/nodeName").is_some() && object.get("status").is_none()
}

const MUTATIONS: &[Mutation<Example>] = &[
    Mutation {
        name: "a pod too many comes to a full node",
        found_by: &["more than fits"],
        change: |example, _| add(example, Resource::Pods, "p9", Some(ready(pod("p9", "a", "1m")))),
    },
    Mutation {
        name: "a node was smaller",
        found_by: &["more than fits"],
        change: |example, random| {
            let is_node = |object: &Value| object.pointer("/status/allocatable").is_some();
            version(example, random, is_node, |node| node["status"]["allocatable"]["cpu"] = json!("1999m"))
        },
    },
    Mutation {
        name: "the room of a pod is taken before it is gone",
        found_by: &["more than fits"],
        change: |example, _| {
            example.log.retain(|entry| !(entry.key.ends_with("/p2") && entry.state.is_none()));
            Some(())
        },
    },
    Mutation {
        name: "a pod is bound elsewhere, and comes back",
        found_by: &["bound twice"],
        change: |example, random| {
            version(example, random, is_binding, |pod| {
                let other = if pod["spec"]["nodeName"] == "a" { "b" } else { "a" };
                pod["spec"]["nodeName"] = json!(other);
            })
        },
    },
    Mutation {
        name: "a pod loses its node",
        found_by: &["bound twice"],
        change: |example, random| {
            let is_ready = |object: &Value| object.pointer("/status/conditions").is_some();
            version(example, random, is_ready, |pod| pod["spec"]["nodeName"] = json!(""))
        },
    },
    Mutation {
        name: "a pod on its way out is bound",
        found_by: &["bound too late"],
        change: |example, random| version(example, random, is_binding, |pod| *pod = leaving(pod.clone())),
    },
    Mutation {
        name: "a node is gone",
        found_by: &["bound to nobody"],
        change: |example, random| {
            let at = place(&example.log, random, |entry| entry.key.contains("minions"))?;
            example.log.remove(at);
            Some(())
        },
    },
    Mutation {
        name: "a pod waits for ever",
        found_by: &["does not run"],
        change: |example, _| add(example, Resource::Pods, "p9", Some(pod("p9", "", "1m"))),
    },
    Mutation {
        name: "a pod is stuck on its way out",
        found_by: &["does not run"],
        change: |example, _| add(example, Resource::Pods, "p1", Some(leaving(ready(pod("p1", "a", "500m"))))),
    },
    Mutation {
        name: "a wait is in vain",
        found_by: &["no convergence"],
        change: |example, _| {
            let end = example.events.last_mut()?;
            (end.kind, end.error) = (EventKind::Fail, Some("p0 is on no node".to_owned()));
            Some(())
        },
    },
];

#[test]
fn no_mutation_of_valid_placements_passes() {
    mutation::check(|_| valid(), Example::rules, MUTATIONS);
}
