//! The scheduler's loop: leads, feeds the planner from the caches, and carries its decisions to binder and reporter.
//!
//! A new leader decides nothing before both caches have passed the revision of its acquisition, and builds its planner anew,
//! so nothing that was assumed under an earlier tenure survives. The tenure ends when the lock is, or may be, lost, or when a
//! write is fenced out.

use std::time::Duration;

use client::{
    ApiError, Cache, Change, ChangeKind, Changes, Client, LeaderLock, LeaderLockConfig, Reflector,
    ReflectorOptions, Tenure,
};
use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::binder::{Binder, Binding};
use super::cycle::SearchWidth;
use super::metrics::{AttemptResult, Metrics};
use super::planner::{BindingEnd, Decision, Planner};
use super::pod_info::PodKey;
use super::reporter::{REPORTS_MAX, Report, Reporter};
use crate::metrics::LeaderStatus;

/// The lock that the leading scheduler holds.
const LOCK: &str = "kube-scheduler";
/// Bindings on the wire at once: enough to keep a quorum's group commit busy, few enough to stop soon.
const BINDINGS_MAX: usize = 256;
/// Decisions in a row before changes are looked at again.
const DECISIONS_PER_TURN: usize = 64;

/// How to schedule.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pods that name this scheduler are placed.
    pub scheduler_name: String,
    /// Unique per process start; names the leader and the origin of events.
    pub identity: String,
    /// Fixes how ties between equally good nodes are broken.
    pub seed: u64,
    /// How long a silent leader keeps its lock.
    pub lock_ttl: Duration,
    /// How much of a big cluster a decision looks at.
    pub width: SearchWidth,
    /// Where the scheduler counts; shared with the registry that exposes it.
    pub metrics: Metrics,
    /// Where it is shown who leads; shared with the controllers of the same process.
    pub leader_status: LeaderStatus,
}

impl Config {
    /// Returns the usual settings for one instance.
    pub fn new(identity: String, seed: u64) -> Self {
        Self {
            scheduler_name: "default-scheduler".to_owned(),
            identity,
            seed,
            lock_ttl: Duration::from_secs(15),
            width: SearchWidth::default(),
            metrics: Metrics::default(),
            leader_status: LeaderStatus::default(),
        }
    }
}

/// Schedules pods whenever this instance leads, until `shutdown`.
pub async fn run(config: Config, client: Client, shutdown: CancellationToken) {
    let mut tasks = JoinSet::new();
    let options = ReflectorOptions::default();
    let pods = Reflector::spawn(client.clone(), options.clone(), &mut tasks, shutdown.clone());
    let nodes = Reflector::spawn(client.clone(), options, &mut tasks, shutdown.clone());
    let lock_config =
        LeaderLockConfig { lock: LOCK.to_owned(), identity: config.identity.clone(), ttl: config.lock_ttl };
    let lock = LeaderLock::new(client.clone(), lock_config);
    config.leader_status.stands_by(LOCK);
    while let Some(tenure) = shutdown.run_until_cancelled(lock.acquire()).await {
        config.leader_status.leads(LOCK);
        let mut term = Term::new(&config, &client, &tenure);
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tenure.lost.cancelled() => {}
            () = term.run(&pods, &nodes, tenure.epoch.revision) => {}
        }
        term.end().await;
        config.leader_status.stands_by(LOCK);
        tenure.release().await;
    }
    while tasks.join_next().await.is_some() {}
}

/// One tenure of leadership.
struct Term<'a> {
    config: &'a Config,
    planner: Planner,
    binder: Binder,
    bindings: JoinSet<Timed<Binding>>,
    reports: mpsc::Sender<Report>,
    reporter: JoinSet<()>,
}

struct Timed<T> {
    value: T,
    started_at: Instant,
}

/// Whether the loop goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leadership {
    Held,
    FencedOut,
}

impl<'a> Term<'a> {
    fn new(config: &'a Config, client: &Client, tenure: &Tenure) -> Self {
        let (reports, received) = mpsc::channel(REPORTS_MAX);
        let reporter = Reporter::new(
            client.clone(),
            tenure.fence(),
            config.scheduler_name.clone(),
            config.identity.clone(),
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(reporter.run(received));
        Self {
            config,
            planner: Planner::new(config.scheduler_name.clone(), config.width, config.seed),
            binder: Binder::new(client.clone(), tenure.fence()),
            bindings: JoinSet::new(),
            reports,
            reporter: tasks,
        }
    }

    /// Returns when a write was fenced out.
    async fn run(&mut self, pods: &Cache<Pod>, nodes: &Cache<Node>, acquired_at: u64) {
        tokio::join!(pods.ensure_revision(acquired_at), nodes.ensure_revision(acquired_at));
        let (mut nodes, mut pods) = (nodes.subscribe(), pods.subscribe());
        info!(revision = acquired_at, "scheduling");
        loop {
            self.take_changes(&mut nodes, &mut pods);
            let wakeup = self.decide();
            self.config.metrics.pending(self.planner.pending());
            tokio::select! {
                change = nodes.recv() => self.node_changed(change),
                change = pods.recv() => self.pod_changed(change),
                Some(ended) = self.bindings.join_next() => {
                    if self.binding_ended(ended) == Leadership::FencedOut {
                        return;
                    }
                }
                () = sleep_until(wakeup) => {}
            }
        }
    }

    /// Bindings under way are fenced and their fate is read from the cache by whoever leads next.
    async fn end(mut self) {
        self.bindings.shutdown().await;
        self.reporter.shutdown().await;
    }

    /// Nodes go first: a pod on an unknown node only waits for it.
    fn take_changes(&mut self, nodes: &mut Changes<Node>, pods: &mut Changes<Pod>) {
        while let Some(change) = nodes.try_recv() {
            self.node_changed(change);
        }
        while let Some(change) = pods.try_recv() {
            self.pod_changed(change);
        }
    }

    fn node_changed(&mut self, change: Change<Node>) {
        match change.kind {
            ChangeKind::Applied => self.planner.set_node(change.object, now()),
            ChangeKind::Deleted => self.planner.remove_node(&change.name, now()),
        }
    }

    fn pod_changed(&mut self, change: Change<Pod>) {
        match change.kind {
            ChangeKind::Applied => self.planner.set_pod(change.object, now()),
            ChangeKind::Deleted => {
                let key = PodKey { namespace: change.namespace, name: change.name };
                self.planner.remove_pod(&key, &change.uid, now());
            }
        }
    }

    /// Decides for a bounded number of pods; returns when to decide again if nothing happens.
    fn decide(&mut self) -> Option<std::time::Instant> {
        for _ in 0..DECISIONS_PER_TURN {
            if self.bindings.len() >= BINDINGS_MAX {
                // The next answer makes room.
                return None;
            }
            let started_at = Instant::now();
            match self.planner.decide(started_at.into_std()) {
                Some(decision) => self.carry_out(decision, started_at),
                None => return self.planner.next_wakeup(),
            }
        }
        Some(now())
    }

    fn carry_out(&mut self, decision: Decision, started_at: Instant) {
        match decision {
            Decision::Bind { pod, node } => {
                let binding = self.binder.clone().bind(pod, node);
                self.bindings.spawn(async move { Timed { value: binding.await, started_at } });
            }
            Decision::Unschedulable { pod, diagnosis } => {
                self.count(AttemptResult::Unschedulable, started_at);
                let message = diagnosis.message();
                debug!(pod = %pod.key, %message, "pod unschedulable");
                self.report(Report::Unschedulable { pod, message });
            }
        }
    }

    fn binding_ended(&mut self, ended: Result<Timed<Binding>, tokio::task::JoinError>) -> Leadership {
        let Timed { value: binding, started_at } = match ended {
            Ok(ended) => ended,
            Err(error) => {
                // Only a panic gets here; without the pod it is not known which placement to forget.
                warn!(%error, "binding task failed; starting over");
                return Leadership::FencedOut;
            }
        };
        let end = binding.end();
        self.planner.binding_ended(&binding.pod, end, now());
        let Binding { pod, node, result } = binding;
        match (end, result) {
            (_, Err(ApiError::FencedOut(_))) => return Leadership::FencedOut,
            (BindingEnd::Bound, _) => {
                self.count(AttemptResult::Scheduled, started_at);
                self.report(Report::Scheduled { pod, node });
            }
            (BindingEnd::Failed, result) => {
                self.count(AttemptResult::Error, started_at);
                let message = result.err().map(|error| error.to_string()).unwrap_or_default();
                self.report(Report::BindingFailed { pod, message: format!("binding rejected: {message}") });
            }
        }
        Leadership::Held
    }

    fn count(&self, result: AttemptResult, started_at: Instant) {
        self.config.metrics.attempt(&self.config.scheduler_name, result, started_at.elapsed().as_secs_f64());
    }

    fn report(&self, report: Report) {
        if let Err(error) = self.reports.try_send(report) {
            debug!(%error, "report dropped");
        }
    }
}

/// The planner's time; it follows tokio's clock, so that tests can pause it.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

async fn sleep_until(wakeup: Option<std::time::Instant>) {
    match wakeup {
        Some(wakeup) => tokio::time::sleep_until(Instant::from_std(wakeup)).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
