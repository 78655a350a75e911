//! Writes a pod's status from what is observed. Pure: the last status goes in, the next one comes out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::compute::{RestartPolicy, is_sidecar, succeeded};
use super::memory::Memory;
use super::observed::Observed;
use super::probe_state::{Verdict, Verdicts};
use super::qos::QosClass;
use crate::runtime::{ContainerInfo, ContainerState, Exit};

/// Exit status of a container that the runtime lost.
const LOST_EXIT_CODE: i32 = 137;

/// Facts beside the pod itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The node's address.
    pub host: Option<IpAddr>,
    /// The sandbox's address; for pods in the node's network the node's.
    pub pod: Option<IpAddr>,
}

/// Returns the pod's next status.
#[must_use]
pub fn status(
    pod: &Pod,
    observed: &Observed,
    memory: &Memory,
    addresses: Addresses,
    runtime: &str,
    now: Timestamp,
) -> PodStatus {
    let Some(spec) = &pod.spec else { return PodStatus::default() };
    let last = pod.status.clone().unwrap_or_default();
    let writer = Writer { spec, observed, memory, runtime, now };
    let init: Vec<ContainerStatus> =
        writer.statuses(spec.init_containers.iter().flatten(), last.init_container_statuses.as_deref());
    let main: Vec<ContainerStatus> =
        writer.statuses(spec.containers.iter(), last.container_statuses.as_deref());
    let computed = phase(spec, &init, &main);
    let phase = match last.phase.as_deref() {
        Some(terminal @ ("Succeeded" | "Failed")) => terminal.to_owned(),
        _ => computed.to_owned(),
    };
    let facts =
        Readiness { phase: &phase, network: addresses.pod.is_some() && observed.ready_sandbox().is_some() };
    let conditions = conditions(spec, &facts, &init, &main, last.conditions.unwrap_or_default(), pod, now);
    let ip = |address: Option<IpAddr>| address.map(|address| address.to_string());
    PodStatus {
        phase: Some(phase),
        conditions: Some(conditions),
        host_ip: ip(addresses.host),
        host_ips: ip(addresses.host).map(|ip| vec![HostIP { ip }]),
        pod_ip: ip(addresses.pod),
        pod_ips: ip(addresses.pod).map(|ip| vec![PodIP { ip }]),
        start_time: last.start_time.or(Some(Time(now))),
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(main),
        qos_class: Some(QosClass::of(spec).name().to_owned()),
        observed_generation: pod.metadata.generation,
        reason: last.reason,
        message: last.message,
        nominated_node_name: last.nominated_node_name,
        ..PodStatus::default()
    }
}

struct Writer<'a> {
    spec: &'a PodSpec,
    observed: &'a Observed,
    memory: &'a Memory,
    runtime: &'a str,
    now: Timestamp,
}

impl<'a> Writer<'a> {
    fn statuses(
        &self,
        containers: impl Iterator<Item = &'a Container>,
        last: Option<&[ContainerStatus]>,
    ) -> Vec<ContainerStatus> {
        containers
            .map(|container| {
                let last = last.unwrap_or_default().iter().find(|status| status.name == container.name);
                self.container(container, last)
            })
            .collect()
    }

    fn container(&self, container: &Container, last: Option<&ContainerStatus>) -> ContainerStatus {
        let Some(newest) = self.observed.newest(&container.name) else {
            return self.without_container(container, last);
        };
        let in_sandbox = self.observed.newest_sandbox().is_none_or(|sandbox| sandbox.id == newest.sandbox);
        let waiting = self.waiting(container, newest);
        let state = match (&newest.state, &waiting) {
            (ContainerState::Running, _) => running(newest),
            (_, Some(waiting)) => waiting_state(&waiting.reason, &waiting.message),
            (ContainerState::Created, None) => waiting_state("ContainerCreating", ""),
            (ContainerState::Exited(_) | ContainerState::Unknown, None) => self.terminated(newest),
        };
        let ended_before = match newest.state {
            ContainerState::Exited(_) | ContainerState::Unknown if state.terminated.is_none() => Some(newest),
            _ => self.observed.previous(newest),
        };
        let last_state = ended_before
            .map(|ended| self.terminated(ended))
            .or_else(|| last.and_then(|last| last.last_state.clone()));
        let verdicts = self.memory.verdicts.get(&newest.id).copied().unwrap_or_default();
        let alive = newest.state == ContainerState::Running && in_sandbox;
        let started = alive && is_started(container, verdicts);
        ContainerStatus {
            name: container.name.clone(),
            image: newest.image.clone(),
            image_id: newest.image_id.clone(),
            container_id: Some(format!("{}://{}", self.runtime, newest.id)),
            restart_count: i32::try_from(newest.attempt).unwrap_or(i32::MAX),
            ready: self.is_ready(container, newest, verdicts, started),
            started: Some(started),
            state: Some(state),
            last_state,
            ..ContainerStatus::default()
        }
    }

    /// A container that the runtime does not hold: not started yet, or gone with a sandbox that was removed.
    fn without_container(&self, container: &Container, last: Option<&ContainerStatus>) -> ContainerStatus {
        let ended = last.and_then(|last| last.state.as_ref()).and_then(|state| state.terminated.clone());
        let state = match (self.memory.failures.get(&container.name), ended) {
            (Some(failure), _) => waiting_state(&failure.reason, &failure.message),
            (None, Some(terminated)) if self.memory.ended => {
                ApiState { terminated: Some(terminated), ..ApiState::default() }
            }
            (None, _) if self.has_pending_init(container) => waiting_state("PodInitializing", ""),
            (None, _) => match &self.memory.sandbox_failure {
                Some(failure) => waiting_state("ContainerCreating", &failure.message),
                None => waiting_state("ContainerCreating", ""),
            },
        };
        let restart_count = last.map_or(0, |last| last.restart_count);
        ContainerStatus {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            image_id: last.map(|last| last.image_id.clone()).unwrap_or_default(),
            container_id: last.and_then(|last| last.container_id.clone()).filter(|_| self.memory.ended),
            restart_count,
            ready: false,
            started: Some(false),
            state: Some(state),
            last_state: last.and_then(|last| last.last_state.clone()),
            ..ContainerStatus::default()
        }
    }

    fn has_pending_init(&self, container: &Container) -> bool {
        let is_init = self.spec.init_containers.iter().flatten().any(|init| init.name == container.name);
        let pending = self.spec.init_containers.iter().flatten().any(|init| {
            let newest = self.observed.newest(&init.name);
            !newest.is_some_and(|newest| succeeded(newest) || is_sidecar(init))
        });
        !is_init && pending
    }

    /// Returns why an ended container does not run again yet, if it should.
    fn waiting(&self, container: &Container, newest: &ContainerInfo) -> Option<super::Waiting> {
        if newest.is_live() || self.memory.ended || self.memory.terminating_since.is_some() {
            return None;
        }
        let is_init = self.spec.init_containers.iter().flatten().any(|init| init.name == container.name);
        let policy = match (is_sidecar(container), is_init, RestartPolicy::of(self.spec)) {
            (true, _, _) => RestartPolicy::Always,
            (false, true, RestartPolicy::Always) => RestartPolicy::OnFailure,
            (false, _, policy) => policy,
        };
        if !policy.restarts(newest) {
            return None;
        }
        if let Some(failure) = self.memory.failures.get(&container.name) {
            return Some(failure.clone());
        }
        let ended_at = newest.finished_at.unwrap_or(newest.created_at);
        let backoff = self.memory.restarts.get(&container.name)?;
        backoff.blocked_until(ended_at, self.now)?;
        let delay = backoff.delay().as_secs();
        let message = format!("back-off {delay}s restarting failed container={}", container.name);
        Some(super::Waiting { reason: "CrashLoopBackOff".to_owned(), message, at: ended_at })
    }

    fn is_ready(
        &self,
        container: &Container,
        newest: &ContainerInfo,
        verdicts: Verdicts,
        started: bool,
    ) -> bool {
        let is_init = self.spec.init_containers.iter().flatten().any(|init| init.name == container.name);
        if is_init && !is_sidecar(container) {
            return succeeded(newest);
        }
        started && (container.readiness_probe.is_none() || verdicts.readiness == Verdict::Success)
    }

    fn terminated(&self, ended: &ContainerInfo) -> ApiState {
        let lost = Exit {
            code: LOST_EXIT_CODE,
            reason: "ContainerStatusUnknown".to_owned(),
            message: String::new(),
        };
        let exit = match &ended.state {
            ContainerState::Exited(exit) => exit.clone(),
            ContainerState::Created | ContainerState::Running | ContainerState::Unknown => lost,
        };
        let reason = match (exit.reason.is_empty(), exit.code) {
            (false, _) => exit.reason,
            (true, 0) => "Completed".to_owned(),
            (true, _) => "Error".to_owned(),
        };
        ApiState {
            terminated: Some(ContainerStateTerminated {
                container_id: Some(format!("{}://{}", self.runtime, ended.id)),
                exit_code: exit.code,
                reason: Some(reason),
                message: (!exit.message.is_empty()).then_some(exit.message),
                started_at: ended.started_at.map(Time),
                finished_at: ended.finished_at.map(Time),
                signal: None,
            }),
            ..ApiState::default()
        }
    }
}

/// A container without a startup probe is started as soon as it runs.
fn is_started(container: &Container, verdicts: Verdicts) -> bool {
    container.startup_probe.is_none() || verdicts.startup == Verdict::Success
}

fn running(container: &ContainerInfo) -> ApiState {
    ApiState {
        running: Some(ContainerStateRunning { started_at: container.started_at.map(Time) }),
        ..ApiState::default()
    }
}

fn waiting_state(reason: &str, message: &str) -> ApiState {
    ApiState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: (!message.is_empty()).then(|| message.to_owned()),
        }),
        ..ApiState::default()
    }
}

/// Upstream's rules, on the statuses that are reported with it.
fn phase(spec: &PodSpec, init: &[ContainerStatus], main: &[ContainerStatus]) -> &'static str {
    let policy = RestartPolicy::of(spec);
    let terminated =
        |status: &ContainerStatus| status.state.as_ref().and_then(|state| state.terminated.clone());
    let is_running =
        |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
    let ended_before =
        |status: &ContainerStatus| status.last_state.as_ref().is_some_and(|state| state.terminated.is_some());
    let sidecars: Vec<&str> = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|item| is_sidecar(item))
        .map(|item| item.name.as_str())
        .collect();
    for status in init.iter().filter(|status| !sidecars.contains(&status.name.as_str())) {
        match terminated(status) {
            Some(end) if end.exit_code == 0 => {}
            Some(_) if policy == RestartPolicy::Never => return "Failed",
            _ if main.iter().any(is_running) => {}
            _ => return "Pending",
        }
    }
    let stopped = main.iter().filter(|status| terminated(status).is_some()).count();
    let succeeded =
        main.iter().filter(|status| terminated(status).is_some_and(|end| end.exit_code == 0)).count();
    let waiting_again = main
        .iter()
        .filter(|status| terminated(status).is_none() && !is_running(status) && ended_before(status));
    let waiting_again = waiting_again.count();
    let running = main.iter().filter(|status| is_running(status)).count();
    if running + stopped + waiting_again < main.len() {
        return "Pending";
    }
    if running > 0 || waiting_again > 0 {
        return "Running";
    }
    match policy {
        RestartPolicy::Always => "Running",
        RestartPolicy::OnFailure | RestartPolicy::Never if succeeded == stopped => "Succeeded",
        RestartPolicy::OnFailure => "Running",
        RestartPolicy::Never => "Failed",
    }
}

struct Readiness<'a> {
    phase: &'a str,
    network: bool,
}

struct Claim {
    kind: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

fn conditions(
    spec: &PodSpec,
    facts: &Readiness<'_>,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
    last: Vec<PodCondition>,
    pod: &Pod,
    now: Timestamp,
) -> Vec<PodCondition> {
    let mut all: BTreeMap<String, PodCondition> =
        last.into_iter().map(|item| (item.type_.clone(), item)).collect();
    let gates_open = spec
        .readiness_gates
        .iter()
        .flatten()
        .all(|gate| all.get(&gate.condition_type).is_some_and(|condition| condition.status == "True"));
    for claim in claims(facts, init, main, gates_open) {
        let status = if claim.holds { "True" } else { "False" };
        let before = all.get(claim.kind).filter(|condition| condition.status == status);
        let last_transition_time =
            before.and_then(|condition| condition.last_transition_time.clone()).or(Some(Time(now)));
        let condition = PodCondition {
            type_: claim.kind.to_owned(),
            status: status.to_owned(),
            reason: (!claim.holds && !claim.reason.is_empty()).then(|| claim.reason.to_owned()),
            message: (!claim.holds && !claim.message.is_empty()).then_some(claim.message),
            last_transition_time,
            observed_generation: pod.metadata.generation,
            ..PodCondition::default()
        };
        all.insert(claim.kind.to_owned(), condition);
    }
    all.into_values().collect()
}

fn claims(
    facts: &Readiness<'_>,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
    gates_open: bool,
) -> [Claim; 4] {
    let unready: Vec<&str> =
        main.iter().filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    let incomplete: Vec<&str> =
        init.iter().filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    let (reason, message) = match facts.phase {
        "Succeeded" => ("PodCompleted", String::new()),
        "Failed" => ("PodFailed", String::new()),
        _ => ("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" "))),
    };
    let containers_ready =
        unready.is_empty() && incomplete.is_empty() && !matches!(facts.phase, "Succeeded" | "Failed");
    let initialized = incomplete.is_empty() || main.iter().any(|status| status.started == Some(true));
    let (ready_reason, ready_message) = if containers_ready {
        ("ReadinessGatesNotReady", "a readiness gate is not True".to_owned())
    } else {
        (reason, message.clone())
    };
    [
        Claim { kind: "PodReadyToStartContainers", holds: facts.network, reason: "", message: String::new() },
        Claim {
            kind: "Initialized",
            holds: initialized,
            reason: "ContainersNotInitialized",
            message: format!("containers with incomplete status: [{}]", incomplete.join(" ")),
        },
        Claim { kind: "ContainersReady", holds: containers_ready, reason, message },
        Claim {
            kind: "Ready",
            holds: containers_ready && gates_open,
            reason: ready_reason,
            message: ready_message,
        },
    ]
}
