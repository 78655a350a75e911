//! Decides what to do next for one pod.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::memory::Memory;
use super::observed::Observed;
use super::probe_state::Verdict;
use crate::runtime::{ContainerId, ContainerInfo, ContainerState, SandboxId, SandboxInfo, SandboxState};

/// Grace period where the pod names none (the API's default).
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// How far the end of a pod has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It runs, or should.
    Syncing,
    /// Its containers are being stopped.
    Terminating,
    /// No container lives and no sandbox is ready; what is left serves logs.
    Terminated,
    /// Deleted, and the runtime holds nothing of it: the API object may go.
    Finished,
}

/// One thing to do. Actions of one decision are independent of each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make a sandbox.
    CreateSandbox {
        /// Its number.
        attempt: u32,
    },
    /// Release a sandbox's network and namespaces.
    StopSandbox {
        /// Which.
        id: SandboxId,
    },
    /// Remove a sandbox and its containers.
    RemoveSandbox {
        /// Which.
        id: SandboxId,
    },
    /// Make and start a container.
    StartContainer {
        /// Where.
        sandbox: SandboxId,
        /// Its name.
        name: String,
        /// Its number.
        attempt: u32,
    },
    /// Stop a container.
    KillContainer {
        /// Which.
        id: ContainerId,
        /// Its name.
        name: String,
        /// Why, for the event.
        message: String,
        /// When it must be dead at the latest.
        kill_at: Timestamp,
    },
    /// Remove a dead container.
    RemoveContainer {
        /// Which.
        id: ContainerId,
    },
}

/// What to do and when to look again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Things to do now.
    pub actions: Vec<Action>,
    /// When time alone changes the decision.
    pub wake_at: Option<Timestamp>,
    /// How far the pod's end has come.
    pub stage: Stage,
}

impl Decision {
    fn new(stage: Stage) -> Self {
        Self { actions: Vec::new(), wake_at: None, stage }
    }

    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// How a pod restarts its containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Always.
    Always,
    /// After a failure.
    OnFailure,
    /// Never.
    Never,
}

impl RestartPolicy {
    /// Returns the pod's policy.
    #[must_use]
    pub fn of(spec: &PodSpec) -> Self {
        match spec.restart_policy.as_deref() {
            Some("OnFailure") => Self::OnFailure,
            Some("Never") => Self::Never,
            _ => Self::Always,
        }
    }

    /// Reports whether a container that ended is started again.
    #[must_use]
    pub fn restarts(self, container: &ContainerInfo) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => !succeeded(container),
            Self::Never => false,
        }
    }
}

/// Reports whether a container ended with exit status 0.
#[must_use]
pub fn succeeded(container: &ContainerInfo) -> bool {
    matches!(&container.state, ContainerState::Exited(exit) if exit.code == 0)
}

/// Reports whether an init container goes on running beside the others.
#[must_use]
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Decides the next step of a pod.
#[must_use]
pub fn compute(pod: &Pod, observed: &Observed, memory: &Memory, now: Timestamp) -> Decision {
    let deleted = pod.metadata.deletion_timestamp.is_some();
    let Some(spec) = &pod.spec else { return Decision::new(Stage::Syncing) };
    if deleted || memory.ended || ended(spec, observed) {
        return terminate(pod, observed, memory, now);
    }
    let mut decision = Decision::new(Stage::Syncing);
    let Some(sandbox) = observed.ready_sandbox() else {
        without_sandbox(observed, memory, now, &mut decision);
        return decision;
    };
    let sync = Sync { spec, observed, memory, now, sandbox };
    sync.containers(&mut decision);
    collect_garbage(observed, &mut decision);
    decision
}

/// Returns the grace period in seconds: the deletion's own, else the pod's.
#[must_use]
pub fn grace_seconds(pod: &Pod) -> i64 {
    let of_spec = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    pod.metadata.deletion_grace_period_seconds.or(of_spec).unwrap_or(DEFAULT_GRACE_SECONDS).max(0)
}

/// Reports whether every container ended for good.
#[must_use]
pub fn ended(spec: &PodSpec, observed: &Observed) -> bool {
    let policy = RestartPolicy::of(spec);
    if policy == RestartPolicy::Always {
        return false;
    }
    let init_failed =
        spec.init_containers.iter().flatten().filter(|container| !is_sidecar(container)).any(|container| {
            let newest = observed.newest(&container.name);
            policy == RestartPolicy::Never
                && newest.is_some_and(|newest| !newest.is_live() && !succeeded(newest))
        });
    let all_done = spec.containers.iter().all(|container| {
        let newest = observed.newest(&container.name);
        newest.is_some_and(|newest| !newest.is_live() && !policy.restarts(newest))
    });
    init_failed || all_done
}

fn terminate(pod: &Pod, observed: &Observed, memory: &Memory, now: Timestamp) -> Decision {
    let mut decision = Decision::new(Stage::Terminating);
    let since = memory.terminating_since.unwrap_or(now);
    let kill_at = after(since, grace_seconds(pod));
    let mut live = observed.live().peekable();
    if live.peek().is_some() {
        for container in live {
            kill(container, "Stopping container", kill_at, memory, &mut decision);
        }
        return decision;
    }
    let ready = observed.sandboxes.iter().filter(|sandbox| sandbox.state == SandboxState::Ready);
    decision.actions = ready.map(|sandbox| Action::StopSandbox { id: sandbox.id.clone() }).collect();
    if !decision.actions.is_empty() {
        return decision;
    }
    decision.stage = Stage::Terminated;
    if pod.metadata.deletion_timestamp.is_some() {
        let all = observed.sandboxes.iter();
        decision.actions = all.map(|sandbox| Action::RemoveSandbox { id: sandbox.id.clone() }).collect();
        let orphans =
            observed.containers.iter().filter(|item| observed.sandboxes.iter().all(|s| s.id != item.sandbox));
        decision.actions.extend(orphans.map(|item| Action::RemoveContainer { id: item.id.clone() }));
        if decision.actions.is_empty() {
            decision.stage = Stage::Finished;
        }
    }
    decision
}

/// Without a ready sandbox nothing may live; then a new one is made, with back-off after failures.
fn without_sandbox(observed: &Observed, memory: &Memory, now: Timestamp, decision: &mut Decision) {
    let mut live = observed.live().peekable();
    if live.peek().is_some() {
        for container in live {
            kill(container, "Pod sandbox changed, it will be killed and re-created", now, memory, decision);
        }
        return;
    }
    if let Some(failure) = &memory.sandbox_failure
        && let Some(until) = memory.sandbox_backoff.blocked_until(failure.at, now)
    {
        decision.wake(until);
        return;
    }
    let attempt = observed.newest_sandbox().map_or(0, |sandbox| sandbox.attempt.saturating_add(1));
    decision.actions.push(Action::CreateSandbox { attempt });
}

/// One live container of a name at most: a stop that is under way is only repeated to make it sooner.
fn kill(
    container: &ContainerInfo,
    message: &str,
    kill_at: Timestamp,
    memory: &Memory,
    decision: &mut Decision,
) {
    if container.state == ContainerState::Created {
        // Made and never started: a runtime stops nothing that does not run, and says that it has.
        decision.actions.push(Action::RemoveContainer { id: container.id.clone() });
        return;
    }
    if memory.stopping.get(&container.id).is_some_and(|stopping| stopping.kill_at <= kill_at) {
        return;
    }
    decision.actions.push(Action::KillContainer {
        id: container.id.clone(),
        name: container.name.clone(),
        message: format!("{message} {}", container.name),
        kill_at,
    });
}

fn after(start: Timestamp, seconds: i64) -> Timestamp {
    start.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// Keeps the newest container of each name and the one before it, whose log is `--previous`.
fn collect_garbage(observed: &Observed, decision: &mut Decision) {
    for container in observed.containers.iter().filter(|container| !container.is_live()) {
        let newer = observed
            .containers
            .iter()
            .filter(|other| other.name == container.name && other.attempt > container.attempt);
        if newer.count() >= 2 {
            decision.actions.push(Action::RemoveContainer { id: container.id.clone() });
        }
    }
}

/// How far one container is.
enum Progress {
    /// It has what it needs to be passed: an init container ended well, a container or sidecar runs.
    Passed,
    /// It is not there yet.
    Pending,
}

struct Sync<'a> {
    spec: &'a PodSpec,
    observed: &'a Observed,
    memory: &'a Memory,
    now: Timestamp,
    sandbox: &'a SandboxInfo,
}

impl Sync<'_> {
    fn containers(&self, decision: &mut Decision) {
        // Once a main container exists in this sandbox, init containers have passed, even if they were collected since.
        let initialized = self
            .spec
            .containers
            .iter()
            .any(|container| self.observed.newest_in(self.sandbox, &container.name).is_some());
        for container in self.spec.init_containers.iter().flatten() {
            let progress = if is_sidecar(container) {
                self.sidecar(container, decision)
            } else if initialized {
                Progress::Passed
            } else {
                self.init(container, decision)
            };
            if matches!(progress, Progress::Pending) && !initialized {
                return;
            }
        }
        for container in &self.spec.containers {
            self.regular(container, RestartPolicy::of(self.spec), decision);
        }
    }

    fn init(&self, container: &Container, decision: &mut Decision) -> Progress {
        if self.observed.newest_in(self.sandbox, &container.name).is_some_and(succeeded) {
            return Progress::Passed;
        }
        let policy = match RestartPolicy::of(self.spec) {
            RestartPolicy::Never => RestartPolicy::Never,
            RestartPolicy::Always | RestartPolicy::OnFailure => RestartPolicy::OnFailure,
        };
        self.regular(container, policy, decision);
        Progress::Pending
    }

    fn sidecar(&self, container: &Container, decision: &mut Decision) -> Progress {
        self.regular(container, RestartPolicy::Always, decision);
        let newest = self.observed.newest_in(self.sandbox, &container.name);
        let running = newest.filter(|newest| newest.state == ContainerState::Running);
        let started = running.is_some_and(|running| {
            let verdict =
                self.memory.verdicts.get(&running.id).map_or(Verdict::Unknown, |verdicts| verdicts.startup);
            container.startup_probe.is_none() || verdict == Verdict::Success
        });
        if started { Progress::Passed } else { Progress::Pending }
    }

    fn regular(&self, container: &Container, policy: RestartPolicy, decision: &mut Decision) {
        let Some(newest) = self.observed.newest_in(self.sandbox, &container.name) else {
            self.start(container, self.observed.newest(&container.name), decision);
            return;
        };
        match newest.state {
            // Made but not started: an agent died between the two steps. A new one takes its place.
            ContainerState::Created => {
                decision.actions.push(Action::RemoveContainer { id: newest.id.clone() })
            }
            ContainerState::Running => self.check_health(container, newest, decision),
            // A runtime that came back and does not reach the container's shim: it may run, and must not run twice.
            ContainerState::Unknown => {
                kill(newest, "Container is in unknown state, stopping", self.now, self.memory, decision);
            }
            ContainerState::Exited(_) => {
                if policy.restarts(newest) {
                    self.restart(container, newest, decision);
                }
            }
        }
    }

    fn check_health(&self, container: &Container, running: &ContainerInfo, decision: &mut Decision) {
        let Some(verdicts) = self.memory.verdicts.get(&running.id) else { return };
        let (failed, probe) = match (verdicts.startup, verdicts.liveness) {
            (Verdict::Failure, _) => ("startup", container.startup_probe.as_ref()),
            (_, Verdict::Failure) => ("liveness", container.liveness_probe.as_ref()),
            (Verdict::Unknown | Verdict::Success, Verdict::Unknown | Verdict::Success) => return,
        };
        let own_grace = probe.and_then(|probe| probe.termination_grace_period_seconds);
        let grace = own_grace.or(self.spec.termination_grace_period_seconds).unwrap_or(DEFAULT_GRACE_SECONDS);
        if self.memory.stopping.contains_key(&running.id) {
            return;
        }
        decision.actions.push(Action::KillContainer {
            id: running.id.clone(),
            name: running.name.clone(),
            message: format!("Container {} failed {failed} probe, will be restarted", running.name),
            kill_at: after(self.now, grace),
        });
    }

    fn restart(&self, container: &Container, ended: &ContainerInfo, decision: &mut Decision) {
        let ended_at = ended.finished_at.unwrap_or(ended.created_at);
        let backoff = self.memory.restarts.get(&container.name);
        if let Some(until) = backoff.and_then(|backoff| backoff.blocked_until(ended_at, self.now)) {
            decision.wake(until);
            return;
        }
        self.start(container, Some(ended), decision);
    }

    fn start(&self, container: &Container, last: Option<&ContainerInfo>, decision: &mut Decision) {
        let failure = self.memory.failures.get(&container.name);
        let backoff = self.memory.start_backoffs.get(&container.name);
        if let (Some(failure), Some(backoff)) = (failure, backoff)
            && let Some(until) = backoff.blocked_until(failure.at, self.now)
        {
            decision.wake(until);
            return;
        }
        let first = self.memory.first_attempts.get(&container.name).copied().unwrap_or(0);
        let attempt = last.map_or(first, |last| last.attempt.saturating_add(1));
        decision.actions.push(Action::StartContainer {
            sandbox: self.sandbox.id.clone(),
            name: container.name.clone(),
            attempt,
        });
    }
}
