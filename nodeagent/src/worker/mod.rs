//! The edge around one pod: observes, lets the core decide, acts, writes the status. One task per pod uid.
//!
//! Everything that can take long beside starting (stops with their grace periods, probes, writes to the API) runs in tasks that
//! this task owns; dropping it stops them and touches no container. Only calls that make
//! something at the runtime outlive their worker.

mod kill;
mod observe;
mod probing;
mod start;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use client::{Cache, Client, DeleteOptions, WriteOptions};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::task::TaskTracker;

use crate::containerd::remove_cgroups;
use crate::events::{Events, Tone};
use crate::pod::env::Facts;
use crate::pod::memory::Stopping;
use crate::pod::probe_state::Verdict;
use crate::pod::spec::{self, NodeFacts};
use crate::pod::status::{Addresses, status};
use crate::pod::{Action, Memory, Observed, Stage, Waiting, compute};
use crate::probes::Report;
use crate::runtime::{ContainerId, Runtime, RuntimeError, SandboxId};
use crate::status_writer::{StatusWriter, status_writer};
use crate::volumes::Volumes;

/// How often a pod is looked at without any news: refreshes volumes and tokens (upstream: 1 min).
const RESYNC: Duration = Duration::from_secs(60);
/// Pause after the runtime failed a call.
const RETRY: Duration = Duration::from_secs(1);
/// How long `ErrImagePull` stands before it becomes `ImagePullBackOff`.
const PULL_ERROR_SHOWN: Duration = Duration::from_secs(2);
/// Probe reports that wait for the worker: three probes of a few containers.
const REPORT_QUEUE: usize = 32;

/// What every worker of a node shares.
#[derive(Debug)]
pub struct Shared {
    /// The container runtime.
    pub runtime: Arc<dyn Runtime>,
    /// Name of the runtime, as container ids spell it.
    pub runtime_name: String,
    /// The API.
    pub client: Client,
    /// Volumes; `None` where containers see no files (hollow nodes).
    pub volumes: Option<Volumes>,
    /// The node.
    pub node: NodeFacts,
    /// The node's address.
    pub host_ip: Option<IpAddr>,
    /// All services, for environment variables.
    pub services: Cache<Service>,
    /// Where events go.
    pub events: Events,
    /// Calls that make something at the runtime and go on when their worker is dropped.
    pub making: TaskTracker,
}

impl Shared {
    /// Returns the time of day.
    fn now(&self) -> Timestamp {
        self.client.outside().now()
    }

    /// Runs a call that makes something to its end, also when the caller is dropped meanwhile. A runtime does not list what is half
    /// made, so nobody would remove what a call that was cut off left.
    async fn make<T: Send + 'static>(&self, call: impl Future<Output = T> + Send + 'static) -> T {
        match self.making.spawn(call).await.map_err(JoinError::try_into_panic) {
            Ok(made) => made,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The whole process ends.
            Err(Err(_)) => std::future::pending().await,
        }
    }
}

/// How the worker hears about its pod.
#[derive(Debug)]
pub struct Inbox {
    /// The pod as the API has it; its deletion from the API arrives as a deletion timestamp.
    pub pod: watch::Receiver<Arc<Pod>>,
    /// Something happened at the runtime.
    pub nudge: Arc<Notify>,
}

/// What a task of the worker ended with.
#[derive(Debug)]
enum Done {
    Stopped(ContainerId),
    Other,
}

/// One pod's worker.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    inbox: Inbox,
    memory: Memory,
    observer: observe::Observer,
    writer: StatusWriter,
    tasks: JoinSet<Done>,
    probing: probing::Probing,
    reports: mpsc::Receiver<Report>,
    ip: Option<IpAddr>,
    volumes_checked: Option<Timestamp>,
}

impl Worker {
    /// Returns a worker for a pod.
    #[must_use]
    pub fn new(shared: Arc<Shared>, inbox: Inbox) -> Self {
        let pod = Arc::clone(&inbox.pod.borrow());
        let mut tasks = JoinSet::new();
        let (writer, writing) = status_writer(shared.client.clone(), Arc::clone(&pod));
        tasks.spawn(async move {
            writing.run().await;
            Done::Other
        });
        let (report_sender, reports) = mpsc::channel(REPORT_QUEUE);
        let memory = Memory::new(&pod);
        Self {
            observer: observe::Observer::new(pod.metadata.uid.clone().unwrap_or_default()),
            probing: probing::Probing::new(report_sender, &memory.verdicts),
            memory,
            ip: None,
            volumes_checked: None,
            shared,
            inbox,
            writer,
            tasks,
            reports,
        }
    }

    /// Runs the pod until nothing of it is left. Dropping the future leaves its containers alone.
    pub async fn run(mut self) {
        loop {
            let pod = Arc::clone(&self.inbox.pod.borrow_and_update());
            let wait = match self.step(&pod).await {
                Ok(Next::Again) => continue,
                Ok(Next::Wait(wait)) => wait,
                Ok(Next::Finished) => {
                    self.finish(&pod).await;
                    return;
                }
                Err(error) => {
                    tracing::warn!(pod = ?pod.metadata.name, %error, "pod is not synced");
                    RETRY
                }
            };
            self.wait(wait).await;
        }
    }

    /// One round: observe, decide, report, act.
    async fn step(&mut self, pod: &Arc<Pod>) -> Result<Next, RuntimeError> {
        let observed = self.observer.observe(self.shared.runtime.as_ref()).await?;
        let now = self.shared.now();
        self.learn(pod, &observed, now).await;
        self.publish(pod, &observed, now);
        let decision = compute(pod, &observed, &self.memory, now);
        if decision.stage == Stage::Finished {
            return Ok(Next::Finished);
        }
        self.probing.follow(pod, &observed, decision.stage, self.ip, &self.shared.runtime);
        if decision.actions.is_empty() {
            self.refresh_volumes(pod, decision.stage, now).await;
            return Ok(Next::Wait(self.pause(decision.wake_at, now)));
        }
        let mut lasting = false;
        for action in decision.actions {
            lasting |= !matches!(action, Action::KillContainer { .. });
            self.act(pod, &observed, action).await?;
        }
        // A stop takes its time and reports back; everything else is visible at once.
        Ok(if lasting { Next::Again } else { Next::Wait(RESYNC) })
    }

    /// Brings the memory in line with what is there.
    async fn learn(&mut self, pod: &Pod, observed: &Observed, now: Timestamp) {
        if pod.metadata.deletion_timestamp.is_some() {
            self.memory.terminating_since.get_or_insert(now);
        }
        let exists = |id: &ContainerId| observed.containers.iter().any(|container| container.id == *id);
        let lives = |id: &ContainerId| observed.live().any(|container| container.id == *id);
        self.memory.verdicts.retain(|id, _| exists(id));
        self.memory.stopping.retain(|id, _| lives(id));
        self.ip = match observed.ready_sandbox() {
            Some(_) if pod.spec.as_ref().is_some_and(spec::in_host_network) => self.shared.host_ip,
            Some(sandbox) => {
                self.observer.address(self.shared.runtime.as_ref(), &sandbox.id).await.or(self.ip)
            }
            None => self.ip,
        };
        for (name, failure) in &mut self.memory.failures {
            let shown = Duration::try_from(now.duration_since(failure.at)).unwrap_or_default();
            if failure.reason == "ErrImagePull" && shown >= PULL_ERROR_SHOWN {
                failure.reason = "ImagePullBackOff".to_owned();
                failure.message = format!("Back-off pulling image: {}", failure.message);
                let message = failure.message.clone();
                self.shared.events.pod(pod, Some(name), Tone::Normal, "BackOff", message);
            }
        }
    }

    fn publish(&mut self, pod: &Arc<Pod>, observed: &Observed, now: Timestamp) {
        let addresses = Addresses { host: self.shared.host_ip, pod: self.ip };
        let status = status(pod, observed, &self.memory, addresses, &self.shared.runtime_name, now);
        self.memory.ended |= matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        self.writer.publish(&status, pod);
    }

    /// Returns how long nothing needs to be done.
    fn pause(&self, wake_at: Option<Timestamp>, now: Timestamp) -> Duration {
        let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
        let shows_pull_error = self.memory.failures.values().any(|failure| failure.reason == "ErrImagePull");
        let pause = wake_at.map_or(RESYNC, until).min(RESYNC);
        if shows_pull_error { pause.min(PULL_ERROR_SHOWN) } else { pause }
    }

    async fn wait(&mut self, limit: Duration) {
        tokio::select! {
            changed = self.inbox.pod.changed() => {
                if changed.is_err() {
                    // The manager is gone and drops this task soon.
                    std::future::pending::<()>().await;
                }
            }
            () = self.inbox.nudge.notified() => {}
            Some(report) = self.reports.recv() => self.take(report),
            Some(done) = self.tasks.join_next() => self.done(done),
            () = tokio::time::sleep(limit) => {}
        }
    }

    fn take(&mut self, report: Report) {
        let pod = Arc::clone(&self.inbox.pod.borrow());
        if let Some(failure) = &report.failure {
            let message = format!("{} probe failed: {failure}", report.kind.name());
            self.shared.events.pod(&pod, Some(&report.name), Tone::Warning, "Unhealthy", message);
        }
        self.probing.note(&report);
        if report.verdict != Verdict::Unknown {
            self.memory.verdicts.entry(report.container).or_default().set(report.kind, report.verdict);
        }
    }

    fn done(&mut self, done: Result<Done, JoinError>) {
        match done {
            Ok(Done::Stopped(id)) => {
                self.memory.stopping.remove(&id);
            }
            Ok(Done::Other) => {}
            Err(error) => tracing::error!(%error, "a task of a pod ended badly"),
        }
    }

    async fn act(&mut self, pod: &Arc<Pod>, observed: &Observed, action: Action) -> Result<(), RuntimeError> {
        let runtime = Arc::clone(&self.shared.runtime);
        match action {
            Action::CreateSandbox { attempt } => {
                self.create_sandbox(pod, observed, attempt).await;
                Ok(())
            }
            Action::StopSandbox { id } => runtime.stop_sandbox(&id).await,
            Action::RemoveSandbox { id } => runtime.remove_sandbox(&id).await,
            Action::RemoveContainer { id } => runtime.remove_container(&id).await,
            Action::StartContainer { sandbox, name, attempt } => {
                self.start(pod, observed, &sandbox, &name, attempt).await;
                Ok(())
            }
            Action::KillContainer { id, name, message, kill_at } => {
                self.memory.stopping.insert(id.clone(), Stopping { kill_at });
                self.shared.events.pod(pod, Some(&name), Tone::Normal, "Killing", message);
                self.spawn_stop(pod, id, &name, kill_at);
                Ok(())
            }
        }
    }

    /// Volumes first, then the sandbox: a pod whose volumes are missing takes no address.
    async fn create_sandbox(&mut self, pod: &Arc<Pod>, observed: &Observed, attempt: u32) {
        let now = self.shared.now();
        let outcome = match self.prepare_volumes(pod, now).await {
            Ok(()) => self.make_sandbox(pod, observed, attempt).await,
            Err(failure) => Err(failure),
        };
        match outcome {
            Ok(()) => {
                self.memory.sandbox_failure = None;
                self.memory.sandbox_backoff.reset();
            }
            Err((reason, message)) => {
                self.shared.events.pod(pod, None, Tone::Warning, reason, message.clone());
                self.memory.sandbox_failure = Some(Waiting { reason: reason.to_owned(), message, at: now });
                self.memory.sandbox_backoff.note(now, now);
            }
        }
    }

    async fn make_sandbox(&self, pod: &Pod, observed: &Observed, attempt: u32) -> Result<(), start::Failure> {
        let failed =
            |message: String| ("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {message}"));
        for old in &observed.sandboxes {
            let stopped = self.shared.runtime.stop_sandbox(&old.id).await;
            stopped.map_err(|error| failed(error.to_string()))?;
        }
        let spec = spec::sandbox(pod, &self.shared.node, attempt);
        if self.shared.volumes.is_some() {
            std::fs::create_dir_all(&spec.log_directory).map_err(|error| failed(error.to_string()))?;
        }
        let runtime = Arc::clone(&self.shared.runtime);
        let made = self.shared.make(async move { runtime.run_sandbox(&spec).await }).await;
        made.map(drop).map_err(|error| failed(error.to_string()))
    }

    async fn prepare_volumes(&mut self, pod: &Pod, now: Timestamp) -> Result<(), start::Failure> {
        let Some(volumes) = &self.shared.volumes else { return Ok(()) };
        let prepared = volumes.prepare(pod, &self.facts(), now).await;
        self.volumes_checked = Some(now);
        prepared.map(drop).map_err(|error| ("FailedMount", error.to_string()))
    }

    /// Keeps the volumes of a running pod current. A failure leaves the old files.
    async fn refresh_volumes(&mut self, pod: &Pod, stage: Stage, now: Timestamp) {
        let checked = self.volumes_checked.unwrap_or(Timestamp::MIN);
        let age = Duration::try_from(now.duration_since(checked)).unwrap_or_default();
        if stage != Stage::Syncing || age < RESYNC {
            return;
        }
        if let Err((reason, message)) = self.prepare_volumes(pod, now).await {
            self.shared.events.pod(pod, None, Tone::Warning, reason, message);
        }
    }

    fn facts(&self) -> Facts {
        let text = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
        Facts {
            node_name: self.shared.node.name.clone(),
            host_ip: text(self.shared.host_ip),
            pod_ip: text(self.ip),
            node_cpu_millis: self.shared.node.cpu_millis,
            node_memory_bytes: self.shared.node.memory_bytes,
        }
    }

    /// Nothing is left at the runtime: clean up the node, write the last status, let the object go.
    async fn finish(mut self, pod: &Pod) {
        let metadata = &pod.metadata;
        let uid = metadata.uid.clone().unwrap_or_default();
        let spec = spec::sandbox(pod, &self.shared.node, 0);
        if let Some(volumes) = &self.shared.volumes {
            if let Err(error) = volumes.remove(&uid) {
                tracing::warn!(pod = ?metadata.name, %error, "volumes stay");
            }
            remove_cgroups(&spec.cgroup_parent);
            match std::fs::remove_dir_all(&spec.log_directory) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(pod = ?metadata.name, %error, "logs stay");
                }
                _ => {}
            }
        }
        self.writer.flush().await;
        let delete = DeleteOptions { uid: Some(uid), grace_seconds: Some(0), ..DeleteOptions::default() };
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let name = metadata.name.clone().unwrap_or_default();
        loop {
            let deleted =
                self.shared.client.delete::<Pod>(&namespace, &name, &delete, &WriteOptions::default()).await;
            match deleted {
                Ok(()) => return,
                Err(error) if error.is_not_found() || error.is_conflict() => return,
                Err(error) => {
                    tracing::warn!(pod = name, %error, "the pod's object is not deleted yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

/// What follows a round.
enum Next {
    /// Something changed at once.
    Again,
    /// Nothing to do before news or this time.
    Wait(Duration),
    /// Nothing is left of the pod.
    Finished,
}

/// Removes what an unknown pod left at the runtime: its object was deleted while no agent ran.
///
/// # Errors
/// When the runtime fails; the caller tries again.
pub async fn remove_orphan(runtime: &dyn Runtime, sandboxes: &[SandboxId]) -> Result<(), RuntimeError> {
    for id in sandboxes {
        runtime.stop_sandbox(id).await?;
        runtime.remove_sandbox(id).await?;
    }
    Ok(())
}
