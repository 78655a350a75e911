//! The whole scheduler against the in-memory API: real wire, real caches, real leader lock.

use std::sync::Arc;

use client::fake::{FakeApi, Fault};
use k8s_openapi::api::core::v1::Event;
use serde_json::{Value, json};

use super::*;

/// Longer than any backoff that a test waits for.
const DEADLINE: Duration = Duration::from_secs(60);

struct Running {
    api: FakeApi,
    pods: Changes<Pod>,
    events: Changes<Event>,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Running {
    fn start() -> Self {
        let api = FakeApi::start();
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let options = ReflectorOptions::default();
        let pods: Cache<Pod> = Reflector::spawn(api.client(), options.clone(), &mut tasks, shutdown.clone());
        let events: Cache<Event> = Reflector::spawn(api.client(), options, &mut tasks, shutdown.clone());
        // Renewals come later than any deadline here, so that only a refused write can tell that the lock is lost.
        let config = Config { lock_ttl: 20 * DEADLINE, ..Config::new("scheduler-1".to_owned(), 1) };
        tasks.spawn(run(config, api.client(), shutdown.clone()));
        Self { api, pods: pods.subscribe(), events: events.subscribe(), shutdown, tasks }
    }

    fn add_node(&self, name: &str, cpu: &str) {
        let node: Node = read(json!({
            "metadata": { "name": name },
            "status": { "allocatable": { "cpu": cpu, "memory": "8Gi", "pods": "110" } },
        }));
        self.api.insert(&node);
    }

    fn add_pod(&self, name: &str, cpu: &str) {
        let container = json!({ "name": "c", "resources": { "requests": { "cpu": cpu } } });
        let pod: Pod = read(json!({
            "metadata": { "name": name, "namespace": "default" }, "spec": { "containers": [container] },
        }));
        self.api.insert(&pod);
    }

    async fn bound_node(&mut self, name: &str) -> String {
        let pod =
            until(&mut self.pods, |pod| pod.metadata.name.as_deref() == Some(name) && node_of(pod).is_some())
                .await;
        node_of(&pod).unwrap().to_owned()
    }

    async fn event(&mut self, reason: &str) -> String {
        let event = until(&mut self.events, |event| event.reason.as_deref() == Some(reason)).await;
        event.message.clone().unwrap()
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

fn read<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

async fn until<K: client::ApiObject>(changes: &mut Changes<K>, is_wanted: impl Fn(&K) -> bool) -> Arc<K> {
    let wanted = async {
        loop {
            let change = changes.recv().await;
            if change.kind == ChangeKind::Applied && is_wanted(&change.object) {
                return change.object;
            }
        }
    };
    tokio::time::timeout(DEADLINE, wanted).await.expect("the wanted change arrives")
}

#[tokio::test]
async fn pods_are_bound_to_the_best_node_and_told_so() {
    let mut running = Running::start();
    running.add_node("small", "1");
    running.add_node("big", "8");
    running.add_pod("web", "500m");
    assert_eq!(running.bound_node("web").await, "big");
    assert_eq!(running.event("Scheduled").await, "Successfully assigned default/web to big");
    running.stop().await;
}

#[tokio::test]
async fn an_unschedulable_pod_says_why_and_runs_once_it_can() {
    let mut running = Running::start();
    running.add_node("small", "1");
    running.add_pod("web", "2");
    let reason = "0/1 nodes are available: 1 Insufficient cpu.";
    let is_told = |pod: &Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|condition| {
            condition.type_ == "PodScheduled"
                && condition.status == "False"
                && condition.reason.as_deref() == Some("Unschedulable")
                && condition.message.as_deref() == Some(reason)
        })
    };
    until(&mut running.pods, is_told).await;
    assert_eq!(running.event("FailedScheduling").await, reason);
    running.add_node("big", "8");
    assert_eq!(running.bound_node("web").await, "big");
    running.stop().await;
}

#[tokio::test]
async fn a_binding_with_a_lost_answer_binds_once() {
    let mut running = Running::start();
    running.add_node("n1", "8");
    running.add_node("n2", "8");
    running.add_pod("first", "1");
    running.bound_node("first").await;
    running.event("Scheduled").await;
    running.api.inject(Fault::LoseAnswer);
    running.add_pod("second", "1");
    let node = running.bound_node("second").await;
    running.add_pod("third", "1");
    running.bound_node("third").await;
    let pods: Vec<Pod> = running.api.objects();
    let second = pods.iter().find(|pod| pod.metadata.name.as_deref() == Some("second")).unwrap();
    assert_eq!(node_of(second), Some(node.as_str()));
    running.stop().await;
}

#[tokio::test]
async fn a_failed_binding_is_tried_again() {
    let mut running = Running::start();
    running.add_node("n1", "8");
    running.add_pod("first", "1");
    running.bound_node("first").await;
    running.event("Scheduled").await;
    running.api.inject(Fault::Fail);
    running.add_pod("second", "1");
    running.event("FailedScheduling").await;
    assert_eq!(running.bound_node("second").await, "n1");
    running.stop().await;
}

#[tokio::test]
async fn a_deposed_leader_stops_and_leads_again_before_it_binds() {
    let mut running = Running::start();
    running.add_node("n1", "8");
    running.add_pod("first", "1");
    running.bound_node("first").await;
    running.event("Scheduled").await;
    running.api.depose(LOCK);
    running.add_pod("second", "1");
    assert_eq!(running.bound_node("second").await, "n1");
    running.stop().await;
}
