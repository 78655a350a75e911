//! Gives every pod of this node its worker, and ends what the API does not know any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use client::{Cache, Change, ChangeKind};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::pod::compute::grace_seconds;
use crate::runtime::{Runtime, RuntimeError, SandboxId};
use crate::worker::{self, Inbox, Shared, Worker};

/// Pause between tries to remove what nobody owns.
const ORPHAN_RETRY: Duration = Duration::from_secs(2);
/// Longest wait, at the end, for what is being made: more than any sandbox or container takes on a busy machine.
const MAKING_LIMIT: Duration = Duration::from_secs(30);
/// How often [`stop_all`] looks before it gives up, and the pause after a look that found what could not be stopped.
const STOP_ROUNDS: u32 = 10;
const STOP_RETRY: Duration = Duration::from_secs(1);

struct Handle {
    pod: watch::Sender<Arc<Pod>>,
    nudge: Arc<Notify>,
    task: tokio::task::Id,
}

/// All pods of a node.
pub struct PodManager {
    shared: Arc<Shared>,
    workers: BTreeMap<String, Handle>,
    tasks: JoinSet<String>,
    orphans: JoinSet<()>,
}

impl PodManager {
    /// Returns a manager without pods.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, workers: BTreeMap::new(), tasks: JoinSet::new(), orphans: JoinSet::new() }
    }

    /// Runs until the token is cancelled. Workers then end, what they were making is made; containers stay as they are.
    pub async fn run(
        &mut self,
        pods: Cache<Pod>,
        mut changed: mpsc::Receiver<String>,
        shutdown: CancellationToken,
    ) {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = pods.wait_synced() => {}
        }
        let mut changes = pods.subscribe();
        // A runtime that answers nothing must not keep the agent from ending.
        shutdown.run_until_cancelled(self.remove_orphans(&pods)).await;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                change = changes.recv() => self.take(change),
                Some(uid) = changed.recv() => self.nudge(&uid),
                Some(ended) = self.tasks.join_next() => self.ended(ended, &pods),
                Some(_) = self.orphans.join_next() => {}
            }
        }
        self.workers.clear();
        self.tasks.shutdown().await;
        self.orphans.shutdown().await;
        let making = &self.shared.making;
        making.close();
        if tokio::time::timeout(MAKING_LIMIT, making.wait()).await.is_err() {
            tracing::warn!(count = making.len(), "the runtime does not end calls, what they make may stay");
        }
    }

    fn take(&mut self, change: Change<Pod>) {
        let old_uid = change.old.as_ref().and_then(|old| old.metadata.uid.clone());
        if let Some(old_uid) = old_uid.filter(|old_uid| *old_uid != change.uid) {
            self.gone(&old_uid);
        }
        match change.kind {
            ChangeKind::Deleted => self.gone(&change.uid),
            ChangeKind::Applied => match self.workers.get(&change.uid) {
                Some(handle) => {
                    handle.pod.send_replace(change.object);
                }
                None => self.spawn(change.uid, change.object),
            },
        }
    }

    fn spawn(&mut self, uid: String, pod: Arc<Pod>) {
        let (sender, receiver) = watch::channel(pod);
        let nudge = Arc::new(Notify::new());
        let worker =
            Worker::new(Arc::clone(&self.shared), Inbox { pod: receiver, nudge: Arc::clone(&nudge) });
        let name = uid.clone();
        let task = self.tasks.spawn(async move {
            worker.run().await;
            name
        });
        self.workers.insert(uid, Handle { pod: sender, nudge, task: task.id() });
    }

    /// The object is gone, by force or because nothing was left: whatever lives must end now.
    fn gone(&mut self, uid: &str) {
        let Some(handle) = self.workers.get(uid) else { return };
        handle.pod.send_modify(|pod| {
            let pod = Arc::make_mut(pod);
            pod.metadata.deletion_timestamp.get_or_insert_with(|| Time(self.shared.client.outside().now()));
            pod.metadata.deletion_grace_period_seconds = Some(0);
        });
    }

    fn nudge(&self, uid: &str) {
        if let Some(handle) = self.workers.get(uid) {
            handle.nudge.notify_one();
        }
    }

    /// A worker ends when nothing of its pod is left; one that panicked is replaced while its pod exists.
    fn ended(&mut self, ended: Result<String, JoinError>, pods: &Cache<Pod>) {
        match ended {
            Ok(uid) => {
                self.workers.remove(&uid);
            }
            Err(error) => {
                let uid = self
                    .workers
                    .iter()
                    .find(|(_, handle)| handle.task == error.id())
                    .map(|(uid, _)| uid.clone());
                tracing::error!(%error, pod_uid = ?uid, "a pod's worker panicked");
                let Some(uid) = uid else { return };
                self.workers.remove(&uid);
                let pod =
                    pods.list().into_iter().find(|pod| pod.metadata.uid.as_deref() == Some(uid.as_str()));
                if let Some(pod) = pod {
                    self.spawn(uid, pod);
                }
            }
        }
    }

    /// Pods that were deleted from the API while no agent ran.
    async fn remove_orphans(&mut self, pods: &Cache<Pod>) {
        let known: BTreeSet<String> = pods.list().iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
        let sandboxes = loop {
            match self.shared.runtime.sandboxes().await {
                Ok(sandboxes) => break sandboxes,
                Err(error) => tracing::warn!(%error, "the runtime does not list its sandboxes"),
            }
            tokio::time::sleep(ORPHAN_RETRY).await;
        };
        let orphans: Vec<SandboxId> = sandboxes
            .into_iter()
            .filter(|sandbox| !known.contains(&sandbox.uid))
            .map(|sandbox| sandbox.id)
            .collect();
        if orphans.is_empty() {
            return;
        }
        tracing::info!(count = orphans.len(), "removing sandboxes of pods that are gone");
        let shared = Arc::clone(&self.shared);
        self.orphans.spawn(async move {
            while let Err(error) = worker::remove_orphan(shared.runtime.as_ref(), &orphans).await {
                tracing::warn!(%error, "sandboxes of pods that are gone stay for now");
                tokio::time::sleep(ORPHAN_RETRY).await;
            }
        });
        if let Some(volumes) = &self.shared.volumes {
            for uid in volumes.pods().into_iter().filter(|uid| !known.contains(uid)) {
                if let Err(error) = volumes.remove(&uid) {
                    tracing::warn!(%error, uid, "files of a pod that is gone stay");
                }
            }
        }
    }
}

/// Stops every pod with its grace period and removes it from the runtime, and looks again until there is none. The objects stay
/// in the API, so the next agent on this directory runs the same pods again.
pub async fn stop_all(runtime: Arc<dyn Runtime>, pods: &Cache<Pod>) {
    let graces: BTreeMap<String, Duration> = pods.list().iter().filter_map(grace).collect();
    for _ in 0..STOP_ROUNDS {
        match stop_listed(&runtime, &graces).await {
            Ok(Stopped::Nothing) => return,
            Ok(Stopped::All) => {}
            Ok(Stopped::Some) => tokio::time::sleep(STOP_RETRY).await,
            Err(error) => {
                tracing::warn!(%error, "the runtime does not list its sandboxes");
                tokio::time::sleep(STOP_RETRY).await;
            }
        }
    }
    tracing::error!("pods are not stopped, see the warnings before");
}

/// What one look found and stopped.
enum Stopped {
    Nothing,
    Some,
    All,
}

async fn stop_listed(
    runtime: &Arc<dyn Runtime>,
    graces: &BTreeMap<String, Duration>,
) -> Result<Stopped, RuntimeError> {
    let sandboxes = runtime.sandboxes().await?;
    if sandboxes.is_empty() {
        return Ok(Stopped::Nothing);
    }
    let mut stops = JoinSet::new();
    for sandbox in sandboxes {
        let grace = graces.get(&sandbox.uid).copied().unwrap_or_default();
        let runtime = Arc::clone(runtime);
        stops.spawn(async move {
            let stopped = stop_pod(runtime, &sandbox.id, grace).await;
            stopped.inspect_err(|error| tracing::warn!(%error, pod = sandbox.name, "pod is not stopped yet"))
        });
    }
    let stopped = stops.join_all().await;
    Ok(if stopped.iter().all(Result::is_ok) { Stopped::All } else { Stopped::Some })
}

fn grace(pod: &Arc<Pod>) -> Option<(String, Duration)> {
    let seconds = u64::try_from(grace_seconds(pod)).unwrap_or(0);
    Some((pod.metadata.uid.clone()?, Duration::from_secs(seconds)))
}

async fn stop_pod(
    runtime: Arc<dyn Runtime>,
    sandbox: &SandboxId,
    grace: Duration,
) -> Result<(), RuntimeError> {
    let containers = runtime.containers().await?;
    let mut stops = JoinSet::new();
    for container in containers.into_iter().filter(|item| item.sandbox == *sandbox && item.is_live()) {
        let runtime = Arc::clone(&runtime);
        stops.spawn(async move { runtime.stop_container(&container.id, grace).await });
    }
    while let Some(stopped) = stops.join_next().await {
        if let Ok(Err(error)) = stopped {
            tracing::warn!(%error, "container is not stopped");
        }
    }
    runtime.stop_sandbox(sandbox).await?;
    runtime.remove_sandbox(sandbox).await
}

#[cfg(test)]
mod tests {
    use client::fake::FakeApi;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::events;
    use crate::pod::spec::NodeFacts;
    use crate::runtime::DnsConfig;
    use crate::runtime::cri::CriRuntime;
    use crate::runtime::fake::{FakeImages, FakeRuntime, FakeTimes};

    fn facts() -> NodeFacts {
        NodeFacts {
            name: "n1".to_owned(),
            cgroup_prefix: "/n1".to_owned(),
            log_root: "/var/log".into(),
            memory_bytes: 0,
            cpu_millis: 0,
            cluster_dns: None,
            cluster_domain: "cluster.local".to_owned(),
            node_dns: DnsConfig::default(),
        }
    }

    fn shared(api: &FakeApi, runtime: Arc<dyn Runtime>) -> Arc<Shared> {
        Arc::new(Shared {
            runtime,
            runtime_name: "test".to_owned(),
            client: api.client(),
            volumes: None,
            node: facts(),
            host_ip: None,
            services: Cache::of(Vec::new()),
            events: events::channel(api.client(), "n1").0,
            making: TaskTracker::new(),
        })
    }

    /// The moments of the end sweep over the making of the sandbox and the start of the container, each of which takes ten steps.
    #[tokio::test]
    async fn what_is_being_made_at_the_end_is_made_and_then_stopped() {
        let api = FakeApi::start();
        let step = Duration::from_millis(1);
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "p", "namespace": "default", "uid": "1" },
            "spec": { "terminationGracePeriodSeconds": 0, "containers": [{ "name": "c", "image": "i" }] }
        }))
        .unwrap();
        for steps in 0..25 {
            let times = FakeTimes { sandbox: 10 * step, container: 10 * step };
            let runtime = Arc::new(FakeRuntime::new(FakeImages::All, times, [10, 0, 0, 1].into()));
            let mut manager = PodManager::new(shared(&api, Arc::<FakeRuntime>::clone(&runtime)));
            let pods = Cache::of(vec![pod.clone()]);
            let (_changed, changes) = mpsc::channel(1);
            let shutdown = CancellationToken::new();
            let end = async {
                tokio::time::sleep(steps * step).await;
                shutdown.cancel();
            };
            tokio::join!(manager.run(pods.clone(), changes, shutdown.clone()), end);
            stop_all(Arc::<FakeRuntime>::clone(&runtime), &pods).await;
            assert_eq!(runtime.cut_off(), 0, "calls cut off after {steps} steps");
            assert!(runtime.sandboxes().await.unwrap().is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_stopped_at_once_is_stopped_later() {
        let times = FakeTimes { sandbox: Duration::ZERO, container: Duration::ZERO };
        let runtime = Arc::new(FakeRuntime::new(FakeImages::All, times, [10, 0, 0, 1].into()));
        for attempt in 0..3 {
            runtime
                .run_sandbox(&crate::pod::spec::sandbox(&Pod::default(), &facts(), attempt))
                .await
                .unwrap();
        }
        runtime.fail_stops(5);
        stop_all(Arc::<FakeRuntime>::clone(&runtime), &Cache::of(Vec::new())).await;
        assert!(runtime.sandboxes().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_runtime_that_does_not_answer_does_not_keep_the_agent_from_ending() {
        let api = FakeApi::start();
        let nowhere = tempfile::tempdir().unwrap();
        let runtime = CriRuntime::new(&nowhere.path().join("absent.sock"));
        let mut manager = PodManager::new(shared(&api, Arc::new(runtime)));
        let (_changed, changes) = mpsc::channel(1);
        let shutdown = CancellationToken::new();
        let ended = manager.run(Cache::of(Vec::new()), changes, shutdown.clone());
        let both = async { tokio::join!(ended, async { shutdown.cancel() }) };
        tokio::time::timeout(Duration::from_secs(20), both).await.expect("the manager ends");
    }
}
