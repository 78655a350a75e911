//! A valid record passes; each broken promise is found by its name.

use serde_json::json;

use super::super::example::{Example, done, leaving};
use super::*;
use crate::history::{ApiCall, FaultKind, Process, Sight, Start, Written};

/// Hundredths of a second between two looks.
const STEP: u64 = 25;

pub(super) fn pod(uid: &str, node: &str, policy: &str) -> Value {
    let mut pod = json!({ "metadata": { "uid": uid }, "spec": { "restartPolicy": policy } });
    if !node.is_empty() {
        pod["spec"]["nodeName"] = json!(node);
    }
    pod
}

pub(super) fn in_phase(mut pod: Value, phase: &str) -> Value {
    let ready = if phase == "Running" { "True" } else { "False" };
    pod["status"] = json!({ "phase": phase, "conditions": [{ "type": "Ready", "status": ready }] });
    pod
}

pub(super) fn of(uid: &str) -> ContainerOf {
    ContainerOf { uid: uid.to_owned(), container: "main".to_owned() }
}

/// A process of a pod; its pid stands for its start, too.
pub(super) fn process(uid: &str, node: &str, pid: u32) -> ContainerProcess {
    ContainerProcess { of: of(uid), node: node.to_owned(), pid, started: u64::from(pid) }
}

/// Adds a look that shows these processes; those that are seen for the first time have just said that they start.
pub(super) fn look(example: &mut Example, processes: &[ContainerProcess]) -> u64 {
    let before: Vec<Sight> = looks(&example.events).unwrap().into_iter().map(|look| look.sight).collect();
    let is_new = |process: &&ContainerProcess| !before.iter().any(|sight| sight.processes.contains(process));
    let start = |process: &ContainerProcess| Start {
        of: process.of.clone(),
        node: process.node.clone(),
        at: process.started,
    };
    let starts = processes.iter().filter(is_new).map(start).collect();
    let began = STEP * (u64::try_from(before.len()).unwrap() + 1);
    let sight = Sight { began, processes: processes.to_vec(), starts };
    let index = example.event(70, Function::Containers, EventKind::Invoke, Value::Null);
    example.event(70, Function::Containers, EventKind::Ok, json!(sight));
    index
}

/// A client is answered with a revision.
pub(super) fn answer(example: &mut Example, revision: i64) {
    let list = ApiCall::List(crate::history::Listing::default());
    example.call(0, &list, done(revision, Value::Null));
    example.events.last_mut().unwrap().rev = Some(revision);
}

fn fault(example: &mut Example, phase: Phase) {
    let fault = Fault {
        fault: 0,
        phase,
        members: Vec::new(),
        leader: None,
        hit_leader: false,
        plan: Value::Null,
        witness: Value::Null,
        ended: Vec::new(),
    };
    example.event(0, Function::Fault(FaultKind::KillAgent), EventKind::Info, json!(fault));
    example.events.last_mut().unwrap().process = Process::NEMESIS;
}

/// Four pods run and one ends; agents are killed; one of those that run is deleted and made anew.
pub(super) fn valid() -> Example {
    let mut example = Example::judged_by(opinion).within(NAMESPACE);
    let create = ApiCall::Create(Written { namespace: NAMESPACE.to_owned(), ..Written::default() });
    example.call(0, &create, done(10, json!({})));
    let mut at = 2;
    let mut put = |example: &mut Example, resource, name: &str, object| {
        example.object(at, resource, name, object);
        at += 1;
    };
    for node in ["a", "b"] {
        put(&mut example, Resource::Nodes, node, Some(json!({})));
    }
    let runners = [("r0", "a"), ("r1", "b"), ("r2", "a"), ("r3", "b")];
    for (name, node) in runners {
        put(&mut example, Resource::Pods, name, Some(pod(name, "", "Always")));
        put(&mut example, Resource::Pods, name, Some(pod(name, node, "Always")));
        put(&mut example, Resource::Pods, name, Some(in_phase(pod(name, node, "Always"), "Running")));
    }
    put(&mut example, Resource::Pods, "e0", Some(pod("e0", "a", "Never")));
    let running: Vec<ContainerProcess> =
        (1..).zip(runners).map(|(pid, (name, node))| process(name, node, pid)).collect();
    look(&mut example, &running);
    fault(&mut example, Phase::Begin);
    look(&mut example, &[&running[..], &[process("e0", "a", 30)]].concat());
    fault(&mut example, Phase::End);
    put(&mut example, Resource::Pods, "e0", Some(in_phase(pod("e0", "a", "Never"), "Succeeded")));
    put(&mut example, Resource::Pods, "r0", Some(leaving(in_phase(pod("r0", "a", "Always"), "Running"))));
    look(&mut example, &running);
    look(&mut example, &running[1..]);
    put(&mut example, Resource::Pods, "r0", None);
    put(&mut example, Resource::Pods, "r0", Some(pod("r0-2", "b", "Always")));
    put(&mut example, Resource::Pods, "r0", Some(in_phase(pod("r0-2", "b", "Always"), "Running")));
    answer(&mut example, at - 1);
    example.settle();
    look(&mut example, &[&running[1..], &[process("r0-2", "b", 110)]].concat());
    example
}

#[test]
fn a_valid_history_passes() {
    assert_eq!(valid().rules(), [""; 0]);
    let scope = "6 containers started, at most 5 lived at a time, some of them in 1 of 1 faults; 5 looks";
    assert_eq!(valid().opinion().scope, scope);
}

#[test]
fn processes_that_overlap_are_found_and_those_that_follow_each_other_break_another_rule() {
    let with = |started: u32| {
        let mut example = Example::judged_by(opinion).within(NAMESPACE);
        let create = ApiCall::Create(Written { namespace: NAMESPACE.to_owned(), ..Written::default() });
        example.call(0, &create, done(10, json!({})));
        example.object(2, Resource::Pods, "p", Some(in_phase(pod("p", "a", "Always"), "Running")));
        for others in ["o1", "o2", "o3", "o4"] {
            example.object(3, Resource::Pods, others, Some(pod(others, "a", "Always")));
        }
        let others = ["o1", "o2", "o3", "o4"].map(|uid| process(uid, "a", 1));
        look(&mut example, &[&others[..], &[process("p", "a", 2)]].concat());
        look(&mut example, &[process("p", "a", 2)]);
        look(&mut example, &[process("p", "a", started)]);
        example.rules()
    };
    // The second look began at 50, and showed the first one.
    assert_eq!(with(49), ["two at once", "started again"]);
    assert_eq!(with(50), ["started again"]);
}

#[test]
fn a_pod_may_go_before_its_process_only_with_its_node() {
    let with = |node_goes: bool| {
        let mut example = valid();
        if node_goes {
            example.object(60, Resource::Nodes, "b", None);
        }
        example.object(61, Resource::Pods, "r1", None);
        answer(&mut example, 61);
        look(
            &mut example,
            &[process("r1", "b", 2), process("r2", "a", 3), process("r3", "b", 4), process("r0-2", "b", 110)],
        );
        look(&mut example, &[process("r2", "a", 3), process("r3", "b", 4), process("r0-2", "b", 110)]);
        example.rules()
    };
    assert_eq!(with(false), ["object gone first"]);
    assert_eq!(with(true), [""; 0]);
}

#[test]
fn what_nobody_knew_of_yet_is_not_held_against_a_process() {
    let mut example = valid();
    let last = look(
        &mut example,
        &[process("r1", "b", 2), process("r2", "a", 3), process("r3", "b", 4), process("r0-2", "b", 110)],
    );
    example.object(61, Resource::Pods, "r1", None);
    answer(&mut example, 61);
    assert!(last > 0);
    look(&mut example, &[process("r2", "a", 3), process("r3", "b", 4), process("r0-2", "b", 110)]);
    assert_eq!(example.rules(), [""; 0]);
}

#[test]
fn a_run_with_few_containers_or_none_in_a_fault_shows_nothing() {
    let mut few = valid();
    let is_look = |event: &&mut Event| event.f == Function::Containers && event.kind == EventKind::Ok;
    few.events.iter_mut().filter(is_look).for_each(|event| event.value = json!(Sight::default()));
    let unknown = few.opinion().unknown;
    assert_eq!(
        unknown,
        [
            "0 containers that started, at least 5 are needed",
            "0 faults while a container lived, at least 1 are needed"
        ]
    );
}

#[test]
fn the_end_is_judged_by_a_look_behind_the_wait() {
    let mut early = valid();
    early.settle();
    assert_eq!(early.opinion().unknown, ["nobody looked at containers when all was settled"]);
}
