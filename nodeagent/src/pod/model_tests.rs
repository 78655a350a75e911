//! The state machine against a small model of a runtime: table tests for single decisions, and random histories for the
//! two promises that no table can show.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::compute::{Action, Decision, Stage, compute};
use super::memory::{Memory, Stopping};
use super::observed::Observed;
use super::probe_state::{Verdict, Verdicts};
use super::status::{Addresses, status};
use crate::runtime::{
    ContainerId, ContainerInfo, ContainerState, Exit, SandboxId, SandboxInfo, SandboxState,
};

fn pod(spec: Value) -> Pod {
    let metadata = json!({ "name": "p", "namespace": "n", "uid": "u" });
    serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

/// A runtime that obeys at once, and the worker's bookkeeping around it.
struct World {
    pod: Pod,
    observed: Observed,
    memory: Memory,
    now: Timestamp,
    next_id: u32,
}

impl World {
    fn new(pod: Pod) -> Self {
        Self { memory: Memory::new(&pod), pod, observed: Observed::default(), now: at(0), next_id: 0 }
    }

    fn id(&mut self) -> String {
        self.next_id += 1;
        format!("id{}", self.next_id)
    }

    fn decide(&self) -> Decision {
        compute(&self.pod, &self.observed, &self.memory, self.now)
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::CreateSandbox { attempt } => {
                let id = SandboxId(self.id());
                let (name, namespace, uid) = ("p".to_owned(), "n".to_owned(), "u".to_owned());
                let (state, created_at) = (SandboxState::Ready, self.now);
                let sandbox = SandboxInfo { id, name, namespace, uid, attempt, state, created_at, ip: None };
                self.observed.sandboxes.push(sandbox);
            }
            Action::StopSandbox { id } => self.sandbox(&id).state = SandboxState::NotReady,
            Action::RemoveSandbox { id } => {
                self.observed.sandboxes.retain(|sandbox| sandbox.id != id);
                self.observed.containers.retain(|container| container.sandbox != id);
            }
            Action::StartContainer { sandbox, name, attempt } => {
                if let Some(ended) = self.observed.newest(&name).and_then(|newest| newest.finished_at) {
                    self.memory.restarts.entry(name.clone()).or_default().note(ended, self.now);
                }
                let id = ContainerId(self.id());
                self.observed.containers.push(ContainerInfo {
                    id,
                    sandbox,
                    pod_uid: "u".to_owned(),
                    name,
                    attempt,
                    state: ContainerState::Running,
                    created_at: self.now,
                    started_at: Some(self.now),
                    finished_at: None,
                    image: String::new(),
                    image_id: String::new(),
                    annotations: Default::default(),
                });
            }
            Action::KillContainer { id, kill_at, .. } => {
                self.memory.stopping.insert(id, Stopping { kill_at });
            }
            Action::RemoveContainer { id } => self.observed.containers.retain(|container| container.id != id),
        }
    }

    fn sandbox(&mut self, id: &SandboxId) -> &mut SandboxInfo {
        self.observed.sandboxes.iter_mut().find(|sandbox| sandbox.id == *id).unwrap()
    }

    fn exit(&mut self, name: &str, code: i32) {
        let now = self.now;
        for container in
            self.observed.containers.iter_mut().filter(|item| item.name == name && item.is_live())
        {
            container.state = ContainerState::Exited(Exit { code, ..Exit::default() });
            container.finished_at = Some(now);
        }
    }

    /// Ends what is being stopped.
    fn finish_stops(&mut self) {
        for id in std::mem::take(&mut self.memory.stopping).into_keys() {
            let stopped =
                self.observed.containers.iter().find(|item| item.id == id).map(|item| item.name.clone());
            if let Some(name) = stopped {
                self.exit(&name, 143);
            }
        }
    }

    /// Applies decisions until nothing changes.
    fn settle(&mut self) -> Stage {
        for _ in 0..20 {
            let decision = self.decide();
            if decision.actions.is_empty() {
                return decision.stage;
            }
            decision.actions.into_iter().for_each(|action| self.apply(action));
        }
        panic!("the pod does not settle");
    }

    fn write_status(&mut self) -> PodStatus {
        let addresses = Addresses { host: None, pod: "10.0.0.1".parse().ok() };
        let status = status(&self.pod, &self.observed, &self.memory, addresses, "fake", self.now);
        self.pod.status = Some(status.clone());
        self.memory.ended |= matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        status
    }

    fn delete(&mut self) {
        let time = serde_json::to_value(self.now.to_string()).unwrap();
        self.pod.metadata.deletion_timestamp = Some(serde_json::from_value(time).unwrap());
        self.memory.terminating_since.get_or_insert(self.now);
    }

    fn advance(&mut self, seconds: i64) {
        self.now = self.now.saturating_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    fn phase(&mut self) -> String {
        self.write_status().phase.unwrap()
    }

    fn reason(&mut self, index: usize) -> String {
        let status = self.write_status();
        let state = status.container_statuses.unwrap()[index].state.clone().unwrap();
        state.waiting.and_then(|waiting| waiting.reason).unwrap_or_default()
    }
}

#[test]
fn sandbox_then_init_containers_in_order_then_the_rest() {
    let mut world = World::new(pod(json!({
        "initContainers": [{ "name": "i1" }, { "name": "i2" }], "containers": [{ "name": "a" }, { "name": "b" }]
    })));
    assert!(matches!(world.decide().actions[..], [Action::CreateSandbox { attempt: 0 }]));
    let names = |world: &World| {
        let live: Vec<String> = world.observed.live().map(|container| container.name.clone()).collect();
        live
    };
    world.settle();
    assert_eq!(names(&world), ["i1"]);
    assert_eq!(world.reason(0), "PodInitializing");
    world.exit("i1", 0);
    world.settle();
    assert_eq!(names(&world), ["i2"]);
    assert_eq!(world.phase(), "Pending");
    world.exit("i2", 0);
    world.settle();
    assert_eq!(names(&world), ["a", "b"]);
    assert_eq!(world.phase(), "Running");
}

#[test]
fn sidecar_runs_beside_and_does_not_block() {
    let mut world = World::new(pod(json!({
        "initContainers": [{ "name": "side", "restartPolicy": "Always" }, { "name": "init" }],
        "containers": [{ "name": "a" }]
    })));
    world.settle();
    world.exit("init", 0);
    world.settle();
    let live: BTreeSet<&str> = world.observed.live().map(|container| container.name.as_str()).collect();
    assert_eq!(live, BTreeSet::from(["a", "side"]));
}

#[test]
fn crashes_back_off_and_count() {
    let mut world = World::new(pod(json!({ "containers": [{ "name": "a" }] })));
    world.settle();
    world.exit("a", 1);
    world.settle();
    assert_eq!(world.observed.newest("a").unwrap().attempt, 1, "the first restart is immediate");
    world.exit("a", 1);
    assert_eq!(world.decide().wake_at, Some(at(10)));
    assert_eq!(world.reason(0), "CrashLoopBackOff");
    let status = world.write_status().container_statuses.unwrap();
    assert_eq!(status[0].restart_count, 1);
    assert_eq!(status[0].last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 1);
    world.advance(10);
    world.settle();
    assert_eq!(world.observed.newest("a").unwrap().attempt, 2);
    assert_eq!(world.phase(), "Running");
}

#[test]
fn phases_follow_the_restart_policy() {
    for (policy, codes, phase) in [
        ("Always", [0, 0], "Running"),
        ("OnFailure", [0, 0], "Succeeded"),
        ("Never", [0, 0], "Succeeded"),
        ("Never", [0, 1], "Failed"),
    ] {
        let spec = json!({ "restartPolicy": policy, "containers": [{ "name": "a" }, { "name": "b" }] });
        let mut world = World::new(pod(spec));
        world.settle();
        world.exit("a", codes[0]);
        world.exit("b", codes[1]);
        assert_eq!(world.phase(), phase, "{policy} {codes:?}");
    }
}

#[test]
fn failed_init_container_ends_a_pod_that_never_restarts() {
    let spec = json!({ "restartPolicy": "Never", "initContainers": [{ "name": "i" }], "containers": [{ "name": "a" }] });
    let mut world = World::new(pod(spec));
    world.settle();
    world.exit("i", 1);
    assert_eq!(world.phase(), "Failed");
    assert_eq!(world.settle(), Stage::Terminated);
    assert!(world.observed.newest("a").is_none());
}

#[test]
fn failed_liveness_probe_restarts_the_container() {
    let mut world = World::new(pod(json!({ "containers": [{ "name": "a", "livenessProbe": {} }] })));
    world.settle();
    let id = world.observed.newest("a").unwrap().id.clone();
    world.memory.verdicts.insert(id.clone(), Verdicts { liveness: Verdict::Failure, ..Verdicts::default() });
    let decision = world.decide();
    assert!(matches!(&decision.actions[..], [Action::KillContainer { message, .. }]
        if message == "Container a failed liveness probe, will be restarted"));
    decision.actions.into_iter().for_each(|action| world.apply(action));
    assert!(world.decide().actions.is_empty(), "a stop is not repeated");
    world.finish_stops();
    world.settle();
    assert_eq!(world.observed.newest("a").unwrap().attempt, 1);
}

#[test]
fn a_container_that_the_runtime_cannot_tell_of_is_stopped_before_another_one_starts() {
    let mut world = World::new(pod(json!({ "containers": [{ "name": "a" }] })));
    world.settle();
    world.observed.containers[0].state = ContainerState::Unknown;
    let decision = world.decide();
    assert!(
        matches!(&decision.actions[..], [Action::KillContainer { kill_at, .. }] if *kill_at == world.now)
    );
    decision.actions.into_iter().for_each(|action| world.apply(action));
    assert!(world.decide().actions.is_empty(), "nothing starts before it is stopped");
    world.finish_stops();
    world.settle();
    assert_eq!(world.observed.newest("a").unwrap().attempt, 1);

    world.observed.containers[1].state = ContainerState::Unknown;
    world.delete();
    assert!(matches!(&world.decide().actions[..], [Action::KillContainer { .. }]), "it may still run");
}

#[test]
fn a_container_that_was_made_and_never_started_goes_with_its_pod() {
    let mut world = World::new(pod(json!({ "containers": [{ "name": "a" }] })));
    world.settle();
    world.observed.containers[0].state = ContainerState::Created;
    world.delete();
    assert_eq!(world.settle(), Stage::Finished, "a runtime stops nothing that does not run");

    let mut world = World::new(pod(json!({ "containers": [{ "name": "a" }] })));
    world.settle();
    world.observed.containers[0].state = ContainerState::Created;
    world.observed.sandboxes[0].state = SandboxState::NotReady;
    assert_eq!(world.settle(), Stage::Syncing, "another sandbox takes the place of one that ended");
}

#[test]
fn readiness_decides_the_condition() {
    let mut world = World::new(pod(json!({ "containers": [{ "name": "a", "readinessProbe": {} }] })));
    world.settle();
    let ready = |world: &mut World| {
        let conditions = world.write_status().conditions.unwrap();
        conditions.into_iter().find(|condition| condition.type_ == "Ready").unwrap()
    };
    assert_eq!(ready(&mut world).status, "False");
    let id = world.observed.newest("a").unwrap().id.clone();
    world.memory.verdicts.insert(id, Verdicts { readiness: Verdict::Success, ..Verdicts::default() });
    world.advance(5);
    let first = ready(&mut world);
    assert_eq!(first.status, "True");
    world.advance(5);
    assert_eq!(ready(&mut world).last_transition_time, first.last_transition_time);
}

#[test]
fn a_restarted_agent_takes_readiness_from_the_status_until_a_probe_speaks() {
    let probes = json!({ "name": "a", "readinessProbe": {}, "startupProbe": {} });
    let mut world = World::new(pod(json!({ "containers": [probes] })));
    world.settle();
    let id = world.observed.newest("a").unwrap().id.clone();
    let passed = Verdicts { startup: Verdict::Success, readiness: Verdict::Success, ..Verdicts::default() };
    world.memory.verdicts.insert(id, passed);
    let before = world.write_status();
    world.advance(5);
    world.memory = Memory::new(&world.pod);
    let after = world.write_status();
    assert_eq!(after, before);
    assert_eq!(after.container_statuses.unwrap()[0].started, Some(true));
}

#[test]
fn deletion_stops_containers_then_sandbox_then_removes_all() {
    let mut world =
        World::new(pod(json!({ "terminationGracePeriodSeconds": 7, "containers": [{ "name": "a" }] })));
    world.settle();
    world.delete();
    let decision = world.decide();
    assert!(matches!(&decision.actions[..], [Action::KillContainer { kill_at, .. }] if *kill_at == at(7)));
    assert_eq!(decision.stage, Stage::Terminating);
    decision.actions.into_iter().for_each(|action| world.apply(action));
    world.finish_stops();
    assert!(matches!(world.decide().actions[..], [Action::StopSandbox { .. }]));
    assert_eq!(world.settle(), Stage::Finished);
    assert_eq!(world.observed, Observed::default());
}

#[test]
fn a_shorter_grace_period_is_honoured_while_stopping() {
    let mut world = World::new(pod(json!({ "containers": [{ "name": "a" }] })));
    world.settle();
    world.delete();
    world.settle();
    world.pod.metadata.deletion_grace_period_seconds = Some(0);
    assert!(
        matches!(&world.decide().actions[..], [Action::KillContainer { kill_at, .. }] if *kill_at == at(0))
    );
}

#[test]
fn a_new_agent_continues_the_count_and_never_revives_an_ended_pod() {
    let mut running = pod(json!({ "containers": [{ "name": "a" }] }));
    let status = json!({ "phase": "Running", "containerStatuses": [{ "name": "a", "image": "i", "imageID": "", "ready": true,
        "restartCount": 4, "containerID": "fake://x" }] });
    running.status = serde_json::from_value(status).unwrap();
    let mut world = World::new(running);
    world.settle();
    assert_eq!(world.observed.newest("a").unwrap().attempt, 5);

    let mut failed = pod(json!({ "containers": [{ "name": "a" }] }));
    failed.status = serde_json::from_value(json!({ "phase": "Failed" })).unwrap();
    let mut world = World::new(failed);
    assert_eq!(world.settle(), Stage::Terminated);
    assert!(world.observed.sandboxes.is_empty());
}

#[derive(Debug, Clone)]
enum Happening {
    Apply,
    Exit(usize, i32),
    SandboxDies,
    StopsEnd,
    Verdict(usize),
    Delete,
    AgentRestarts,
    TimePasses(i64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => Just(Happening::Apply),
        3 => (0..3_usize, prop_oneof![Just(0), Just(1)]).prop_map(|(index, code)| Happening::Exit(index, code)),
        1 => Just(Happening::SandboxDies),
        3 => Just(Happening::StopsEnd),
        1 => (0..3_usize).prop_map(Happening::Verdict),
        1 => Just(Happening::Delete),
        1 => Just(Happening::AgentRestarts),
        2 => (1..400_i64).prop_map(Happening::TimePasses),
    ]
}

const NAMES: [&str; 3] = ["i", "a", "b"];

fn happen(world: &mut World, happening: Happening) {
    match happening {
        Happening::Apply => {
            let decision = world.decide();
            decision.actions.into_iter().for_each(|action| world.apply(action));
        }
        Happening::Exit(index, code) => world.exit(NAMES[index], code),
        Happening::SandboxDies => {
            if let Some(sandbox) = world.observed.sandboxes.last_mut() {
                sandbox.state = SandboxState::NotReady;
            }
        }
        Happening::StopsEnd => world.finish_stops(),
        Happening::Verdict(index) => {
            if let Some(id) = world.observed.newest(NAMES[index]).map(|newest| newest.id.clone()) {
                world
                    .memory
                    .verdicts
                    .insert(id, Verdicts { liveness: Verdict::Failure, ..Verdicts::default() });
            }
        }
        Happening::Delete => world.delete(),
        Happening::AgentRestarts => {
            let since = world.memory.terminating_since;
            world.memory = Memory { terminating_since: since, ..Memory::new(&world.pod) };
        }
        Happening::TimePasses(seconds) => world.advance(seconds),
    }
}

proptest! {
    #[test]
    fn one_live_container_per_name_and_terminal_phases_stay(
        policy in prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")],
        history in prop::collection::vec(happening(), 1..120),
    ) {
        let mut world = World::new(pod(json!({
            "restartPolicy": policy, "initContainers": [{ "name": "i" }], "containers": [{ "name": "a" }, { "name": "b" }]
        })));
        let mut terminal: Option<String> = None;
        for step in history {
            happen(&mut world, step);
            for name in NAMES {
                let live = world.observed.live().filter(|container| container.name == name).count();
                prop_assert!(live <= 1, "{live} live containers named {name}");
            }
            let phase = world.phase();
            if let Some(terminal) = &terminal {
                prop_assert_eq!(&phase, terminal);
                let starts = |action: &Action| matches!(action, Action::StartContainer { .. });
                let started = world.decide().actions.iter().any(starts);
                prop_assert!(!started, "an ended pod starts nothing");
            } else if matches!(phase.as_str(), "Succeeded" | "Failed") {
                terminal = Some(phase);
            }
        }
        world.delete();
        world.settle();
        world.finish_stops();
        prop_assert_eq!(world.settle(), Stage::Finished);
    }
}
