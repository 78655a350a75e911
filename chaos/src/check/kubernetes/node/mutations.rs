//! Nodes that do everything right pass; whatever is changed in their record is found.

use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::super::example::{Example, leaving};
use super::tests::{answer, in_phase, look, of, pod, process, valid};
use crate::check::mutation::{self, Mutation, place};
use crate::history::{ContainerProcess, Event, EventKind, Function, Resource, Sight, Start, looks};

/// Behind all that `valid` logs.
const LATE: i64 = 60;

/// Changes what one of the looks shows.
fn sight(
    example: &mut Example,
    random: &mut StdRng,
    holds: impl Fn(&Sight) -> bool,
    change: impl Fn(&mut Sight),
) -> Option<()> {
    let read = |event: &Event| -> Option<Sight> {
        let is_look = event.f == Function::Containers && event.kind == EventKind::Ok;
        is_look.then(|| serde_json::from_value(event.value.clone()).unwrap())
    };
    let at = place(&example.events, random, |event| read(event).is_some_and(|sight| holds(&sight)))?;
    let mut sight = read(&example.events[at])?;
    change(&mut sight);
    example.events[at].value = json!(sight);
    Some(())
}

/// Changes the last look, behind the wait.
fn last(example: &mut Example, change: impl Fn(&mut Sight)) -> Option<()> {
    let count = looks(&example.events).unwrap().len();
    let event =
        example.events.iter_mut().filter(|event| event.f == Function::Containers).nth(2 * count - 1)?;
    let mut sight: Sight = serde_json::from_value(event.value.clone()).unwrap();
    change(&mut sight);
    event.value = json!(sight);
    Some(())
}

fn live(example: &Example) -> Vec<ContainerProcess> {
    looks(&example.events).unwrap().last().unwrap().sight.processes.clone()
}

/// Whether a pod runs in the end and all along.
fn stays(process: &ContainerProcess) -> bool {
    ["r1", "r2", "r3"].contains(&process.of.uid.as_str())
}

const MUTATIONS: &[Mutation<Example>] = &[
    Mutation {
        name: "a container has two processes",
        found_by: &["two at once"],
        change: |example, random| {
            sight(
                example,
                random,
                |sight| sight.processes.iter().any(stays),
                |sight| {
                    let twin = sight.processes.iter().find(|process| stays(process)).unwrap().clone();
                    sight.processes.push(ContainerProcess { pid: 900, started: twin.started + 1, ..twin });
                },
            )
        },
    },
    Mutation {
        name: "a container says that it starts once more",
        found_by: &["started again"],
        change: |example, random| {
            sight(
                example,
                random,
                |_| true,
                |sight| sight.starts.push(Start { of: of("r2"), node: "a".to_owned(), at: 99 }),
            )
        },
    },
    Mutation {
        name: "another process is there in the end",
        found_by: &["started again"],
        change: |example, _| {
            last(example, |sight| {
                for process in sight.processes.iter_mut().filter(|process| process.of.uid == "r3") {
                    (process.pid, process.started) = (901, 120);
                }
            })
        },
    },
    Mutation {
        name: "what has ended starts again",
        found_by: &["started after its end"],
        change: |example, _| {
            let again = [&live(example)[..], &[process("e0", "a", 140)]].concat();
            look(example, &again);
            let whole =
                live(example).into_iter().filter(|process| process.of.uid != "e0").collect::<Vec<_>>();
            look(example, &whole);
            Some(())
        },
    },
    Mutation {
        name: "a pod goes before its process",
        found_by: &["object gone first"],
        change: |example, _| {
            example.object(LATE, Resource::Pods, "r1", None);
            answer(example, LATE);
            let whole = live(example);
            look(example, &whole);
            Some(())
        },
    },
    Mutation {
        name: "a container starts on another node",
        found_by: &["on another node"],
        change: |example, random| {
            sight(
                example,
                random,
                |sight| !sight.starts.is_empty(),
                |sight| {
                    let start = sight.starts.first_mut().unwrap();
                    start.node = if start.node == "a" { "b" } else { "a" }.to_owned();
                },
            )
        },
    },
    Mutation {
        name: "a pod was never bound",
        found_by: &["on another node"],
        change: |example, _| {
            for entry in example.log.iter_mut().filter(|entry| entry.key.ends_with("/r2")) {
                let Some(state) = &mut entry.state else { continue };
                let mut pod: Value = serde_json::from_str(&state.value).unwrap();
                pod["spec"].as_object_mut().unwrap().remove("nodeName");
                state.value = pod.to_string();
            }
            Some(())
        },
    },
    Mutation {
        name: "there never was the pod",
        found_by: &["no such pod"],
        change: |example, _| {
            example.log.retain(|entry| !entry.key.ends_with("/r1"));
            Some(())
        },
    },
    Mutation {
        name: "a pod moves",
        found_by: &["bound twice"],
        change: |example, _| {
            example.object(LATE, Resource::Pods, "r1", Some(in_phase(pod("r1", "a", "Always"), "Running")));
            Some(())
        },
    },
    Mutation {
        name: "nothing of a pod was ever seen",
        found_by: &["never started"],
        change: |example, _| {
            example.object(LATE, Resource::Pods, "r9", Some(in_phase(pod("r9", "a", "Always"), "Running")));
            Some(())
        },
    },
    Mutation {
        name: "a pod has no process in the end",
        found_by: &["does not run"],
        change: |example, _| last(example, |sight| sight.processes.retain(|process| process.of.uid != "r2")),
    },
    Mutation {
        name: "a pod is not ready in the end",
        found_by: &["does not run"],
        change: |example, _| {
            example.object(LATE, Resource::Pods, "r3", Some(in_phase(pod("r3", "b", "Always"), "Pending")));
            Some(())
        },
    },
    Mutation {
        name: "a process of a deleted pod is left",
        found_by: &["left behind"],
        change: |example, _| last(example, |sight| sight.processes.push(process("r0", "a", 1))),
    },
    Mutation {
        name: "a pod that is deleted runs in the end",
        found_by: &["left behind"],
        change: |example, _| {
            let running = in_phase(pod("r3", "b", "Always"), "Running");
            example.object(LATE, Resource::Pods, "r3", Some(leaving(running)));
            Some(())
        },
    },
    Mutation {
        name: "a wait is in vain",
        found_by: &["no convergence"],
        change: |example, _| {
            let end = example.events.iter_mut().rfind(|event| event.f == Function::Settle)?;
            (end.kind, end.error) = (EventKind::Fail, Some("r0 is not ready".to_owned()));
            Some(())
        },
    },
];

#[test]
fn no_mutation_of_valid_nodes_passes() {
    mutation::check(|_| valid(), Example::rules, MUTATIONS);
}
