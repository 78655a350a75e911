//! Replicas of controllers that do everything right pass; whatever is changed in their record is found.

use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::super::example::Example;
use super::NAMESPACE;
use super::tests::{deployment, pod, set, valid};
use crate::check::mutation::{self, Mutation, place};
use crate::history::{EventKind, Resource};

/// Behind all that `valid` logs.
const LATE: i64 = 60;

/// Draws a version of an object of a kind, and changes it.
fn version(
    example: &mut Example,
    random: &mut StdRng,
    resource: Resource,
    change: impl Fn(&mut Value) -> Option<()>,
) -> Option<()> {
    let folder = resource.folder(NAMESPACE);
    let at = place(&example.log, random, |entry| entry.key.starts_with(&folder) && entry.state.is_some())?;
    let state = example.log[at].state.as_mut()?;
    let mut object = serde_json::from_str(&state.value).ok()?;
    change(&mut object)?;
    state.value = object.to_string();
    Some(())
}

fn add(example: &mut Example, resource: Resource, name: &str, object: Option<Value>) -> Option<()> {
    example.object(LATE, resource, name, object);
    Some(())
}

const MUTATIONS: &[Mutation<Example>] = &[
    Mutation {
        name: "a pod too many comes",
        found_by: &["too many pods"],
        change: |example, _| add(example, Resource::Pods, "p9", Some(pod(true, false))),
    },
    Mutation {
        name: "a pod too many comes while all are there",
        found_by: &["too many pods"],
        change: |example, _| {
            // Five are wanted, and five live.
            let fifth = example.log.iter().rposition(|entry| entry.key.ends_with("/p4"))?;
            let at = example.log[..fifth].iter().rposition(|entry| entry.key.ends_with("/s"))?;
            let revision = example.log[at].revision - 1;
            example.object(revision, Resource::Pods, "p9", Some(pod(false, false)));
            example.object(revision + 1, Resource::Pods, "p9", None);
            Some(())
        },
    },
    Mutation {
        name: "less was wanted",
        found_by: &["too many pods"],
        change: |example, _| {
            for entry in &mut example.log {
                let state = entry.state.as_mut().filter(|_| entry.key.ends_with("/s"));
                let Some(state) = state else { continue };
                state.value = state.value.replace("\"replicas\":5", "\"replicas\":4");
            }
            Some(())
        },
    },
    Mutation {
        name: "a ReplicaSet asks for more than the surge",
        found_by: &["beyond the surge"],
        change: |example, _| {
            let mut other = set(1, 1, 2);
            other["metadata"]["uid"] = json!("T");
            add(example, Resource::ReplicaSets, "t", Some(other))
        },
    },
    Mutation {
        name: "a pod is gone",
        found_by: &["not what was wanted"],
        change: |example, _| add(example, Resource::Pods, "p1", None),
    },
    Mutation {
        name: "a pod is on its way out",
        found_by: &["not what was wanted"],
        change: |example, _| add(example, Resource::Pods, "p1", Some(pod(true, true))),
    },
    Mutation {
        name: "a pod is not ready",
        found_by: &["not ready"],
        change: |example, _| add(example, Resource::Pods, "p1", Some(pod(false, false))),
    },
    Mutation {
        name: "more is wanted in the end",
        found_by: &["not what was wanted"],
        change: |example, _| add(example, Resource::Deployments, "d", Some(deployment(3, 3, 4))),
    },
    Mutation {
        name: "a pod is nobody's",
        found_by: &["pod of nobody"],
        change: |example, _| {
            let mut other = pod(true, false);
            other["metadata"]["ownerReferences"] = json!([{ "uid": "gone" }]);
            add(example, Resource::Pods, "p9", Some(other))
        },
    },
    Mutation {
        name: "a pod has no owner",
        found_by: &["pod of nobody"],
        change: |example, _| {
            let mut other = pod(true, false);
            other["metadata"]["ownerReferences"] = json!([]);
            add(example, Resource::Pods, "p9", Some(other))
        },
    },
    Mutation {
        name: "a controller has seen what is not there",
        found_by: &["generation seen before it was there"],
        change: |example, random| {
            version(example, random, Resource::ReplicaSets, |set| {
                let generation = set["metadata"]["generation"].as_i64()?;
                set["status"]["observedGeneration"] = json!(generation + 1);
                Some(())
            })
        },
    },
    Mutation {
        name: "a generation goes back",
        found_by: &["generation went back"],
        change: |example, _| add(example, Resource::ReplicaSets, "s", Some(set(1, 1, 3))),
    },
    Mutation {
        name: "a wait is in vain",
        found_by: &["no convergence"],
        change: |example, _| {
            let end = example.events.last_mut()?;
            (end.kind, end.error) = (EventKind::Fail, Some("1 is ready".to_owned()));
            Some(())
        },
    },
];

#[test]
fn no_mutation_of_valid_replicas_passes() {
    mutation::check(|_| valid(), Example::rules, MUTATIONS);
}
