//! The whole manager against the in-memory API: each test is a promise to users.

use std::time::Duration;

use client::fake::{FakeApi, Fault};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::*;
use crate::metrics::Metrics;

/// Longest wait for a promise; a pass takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(30);
/// How often a promise is looked at.
const LOOK: Duration = Duration::from_millis(5);

struct World {
    api: FakeApi,
    metrics: Metrics,
    shutdown: CancellationToken,
    manager: JoinHandle<anyhow::Result<()>>,
}

impl World {
    fn start() -> Self {
        Self::start_with(Config::default())
    }

    fn start_with(config: Config) -> Self {
        Self::start_on(FakeApi::start(), config)
    }

    /// Starts with what the API has already.
    fn start_on(api: FakeApi, config: Config) -> Self {
        let metrics = Metrics::default();
        let config = Config { ca_pem: "PEM".to_owned(), metrics: metrics.clone(), ..config };
        let shutdown = CancellationToken::new();
        let manager = tokio::spawn(run(config, api.client(), shutdown.clone()));
        Self { api, metrics, shutdown, manager }
    }

    /// Waits until the condition holds for what the API has.
    async fn until(&self, what: &str, holds: impl Fn(&FakeApi) -> bool) {
        let wait = async {
            while !holds(&self.api) {
                sleep(LOOK).await;
            }
        };
        assert!(timeout(DEADLINE, wait).await.is_ok(), "not in time: {what}");
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(DEADLINE, self.manager).await.unwrap().unwrap().unwrap();
    }

    fn deploy(&self, replicas: i32) {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": {"namespace": "web", "name": "web"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web:1"}]}}},
        }))
        .unwrap();
        self.api.insert(&deployment);
    }

    /// Plays node agent: every pod runs on a node and is ready.
    fn run_pods(&self, node: &str) {
        for (index, pod) in self.api.objects::<Pod>().into_iter().enumerate() {
            if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
                continue;
            }
            self.api.modify::<Pod>("web", pod.metadata.name.as_deref().unwrap(), |pod| {
                pod.spec.get_or_insert_default().node_name = Some(node.to_owned());
                pod.status = serde_json::from_value(json!({
                    "phase": "Running", "podIP": format!("10.0.0.{}", index + 1),
                    "conditions": [{"type": "Ready", "status": "True"}],
                }))
                .unwrap();
            });
        }
    }

    fn add_node(&self, name: &str) {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": name},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap();
        self.api.insert(&node);
    }

    fn heartbeat(&self, node: &str, beat: i64) {
        self.api.modify::<Node>("", node, |node| {
            let conditions = node.status.as_mut().unwrap().conditions.as_mut().unwrap();
            let at = jiff::Timestamp::from_second(beat).unwrap();
            // A node whose beat came late on a busy machine reports itself ready again.
            conditions[0].status = "True".to_owned();
            conditions[0].last_heartbeat_time =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
        });
    }
}

fn available(api: &FakeApi) -> i32 {
    let status = api.objects::<Deployment>().first().and_then(|found| found.status.clone());
    status.and_then(|status| status.available_replicas).unwrap_or(0)
}

fn namespace(name: &str) -> Namespace {
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(name.to_owned());
    namespace
}

fn living_pods(api: &FakeApi) -> Vec<Pod> {
    api.objects::<Pod>().into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect()
}

#[tokio::test]
async fn deployment_becomes_pods_and_slices_and_lost_answers_make_none_too_many() {
    let world = World::start();
    world.api.insert(&namespace("web"));
    world.add_node("n1");
    world
        .until("account and CA", |api| {
            api.objects::<ServiceAccount>().len() == 1 && api.objects::<ConfigMap>().len() == 1
        })
        .await;
    world
        .until("pod range", |api| {
            api.objects::<Node>()[0].spec.as_ref().is_some_and(|spec| spec.pod_cidr.is_some())
        })
        .await;
    for _ in 0..3 {
        world.api.inject(Fault::LoseAnswer);
    }
    let service = json!({"metadata": {"namespace": "web", "name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    world.api.insert(&serde_json::from_value::<k8s_openapi::api::core::v1::Service>(service).unwrap());
    world.deploy(5);
    world.until("five pods", |api| api.objects::<Pod>().len() == 5).await;
    world.run_pods("n1");
    world.until("availability", |api| available(api) == 5).await;
    assert_eq!(world.api.objects::<Pod>().len(), 5);
    assert_eq!(world.api.objects::<ReplicaSet>().len(), 1);
    world
        .until("endpoints", |api| {
            let slices = api.objects::<EndpointSlice>();
            slices.len() == 1 && slices[0].endpoints.as_ref().is_some_and(|endpoints| endpoints.len() == 5)
        })
        .await;
    world
        .until("events", |api| {
            api.objects::<Event>().iter().any(|event| event.reason.as_deref() == Some("ScalingReplicaSet"))
        })
        .await;

    let name = living_pods(&world.api)[0].metadata.name.clone().unwrap();
    world.api.remove::<Pod>("web", &name);
    world.until("replacement", |api| api.objects::<Pod>().len() == 5).await;
    world.stop().await;
}

#[tokio::test]
async fn held_watch_never_leads_to_pods_too_many() {
    let world = World::start();
    world.api.insert(&namespace("web"));
    world.until("account", |api| api.objects::<ServiceAccount>().len() == 1).await;
    world.deploy(3);
    world.until("first pod", |api| !api.objects::<Pod>().is_empty()).await;
    world.api.hold_watches(true);
    world.api.modify::<Deployment>("web", "web", |deployment| {
        deployment.spec.as_mut().unwrap().replicas = Some(4);
    });
    // Longer than any pause of the loop: whoever counted from the held view would have acted by now.
    sleep(Duration::from_millis(300)).await;
    assert!(world.api.objects::<Pod>().len() <= 4);
    world.api.hold_watches(false);
    world.until("four pods", |api| api.objects::<Pod>().len() == 4).await;
    world.stop().await;
}

#[tokio::test]
async fn write_of_a_deposed_leader_is_refused_and_counted_and_a_new_tenure_goes_on() {
    let world = World::start();
    world.api.insert(&namespace("web"));
    world.until("account", |api| api.objects::<ServiceAccount>().len() == 1).await;
    world.api.depose(LOCK);
    world.deploy(2);
    let fenced_out = world.metrics.fenced_out.clone();
    world.until("refusal", |_| fenced_out.get() > 0).await;
    // The same instance competes again and finishes the work.
    world.until("pods", |api| api.objects::<Pod>().len() == 2).await;
    world.stop().await;
}

#[tokio::test]
async fn deleted_namespace_empties_and_goes() {
    let world = World::start();
    world.api.insert(&namespace("web"));
    world.deploy(2);
    world.until("pods", |api| api.objects::<Pod>().len() == 2).await;
    let client = world.api.client();
    let (delete, options) = (client::DeleteOptions::default(), client::WriteOptions::default());
    client.delete::<Namespace>("", "web", &delete, &options).await.unwrap();
    world
        .until("nothing left", |api| {
            api.objects::<Namespace>().is_empty()
                && api.objects::<Deployment>().is_empty()
                && api.objects::<ReplicaSet>().is_empty()
                && api.objects::<Pod>().is_empty()
        })
        .await;
    world.stop().await;
}

#[tokio::test]
async fn deleted_deployment_takes_its_sets_and_pods_with_it() {
    let world = World::start();
    world.api.insert(&namespace("web"));
    world.deploy(2);
    world.until("pods", |api| api.objects::<Pod>().len() == 2).await;
    world.api.remove::<Deployment>("web", "web");
    world
        .until("collection", |api| api.objects::<ReplicaSet>().is_empty() && api.objects::<Pod>().is_empty())
        .await;
    world.stop().await;
}

#[tokio::test]
async fn an_owner_that_goes_leaves_its_orphans_whichever_of_them_is_read_first() {
    let owned = |name: &str, kind: &str, owner: &str, uid: &str| {
        let reference = json!({"apiVersion": "v1", "kind": kind, "name": owner, "uid": uid});
        json!({"metadata": {"namespace": "web", "name": name, "ownerReferences": [reference]}})
    };
    let owner = |name: &str| json!({"metadata": {"namespace": "web", "name": name}});
    let api = FakeApi::start();
    let map: ConfigMap = api.insert(&serde_json::from_value(owner("a")).unwrap());
    let account: ServiceAccount = api.insert(&serde_json::from_value(owner("a")).unwrap());
    let uid = |metadata: &ObjectMeta| metadata.uid.clone().unwrap();
    for number in 0..50 {
        let name = format!("b{number}");
        let of_account = owned(&name, "ServiceAccount", "a", &uid(&account.metadata));
        api.insert::<ConfigMap>(&serde_json::from_value(of_account).unwrap());
        let of_map = owned(&name, "ConfigMap", "a", &uid(&map.metadata));
        api.insert::<ServiceAccount>(&serde_json::from_value(of_map).unwrap());
    }
    let go = |metadata: &mut ObjectMeta| {
        metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        metadata.finalizers = Some(vec!["orphan".to_owned()]);
    };
    api.modify::<ConfigMap>("web", "a", |map| go(&mut map.metadata));
    api.modify::<ServiceAccount>("web", "a", |account| go(&mut account.metadata));

    let world = World::start_on(api, Config::default());
    let metadata = |api: &FakeApi| -> Vec<ObjectMeta> {
        let maps = api.objects::<ConfigMap>().into_iter().map(|map| map.metadata);
        let accounts = api.objects::<ServiceAccount>().into_iter().map(|account| account.metadata);
        maps.chain(accounts).collect()
    };
    let named = |metadata: &ObjectMeta, begin: &str| {
        metadata.name.as_deref().is_some_and(|name| name.starts_with(begin))
    };
    world.until("the owners go", |api| !metadata(api).iter().any(|object| named(object, "a"))).await;
    let orphans: Vec<ObjectMeta> =
        metadata(&world.api).into_iter().filter(|object| named(object, "b")).collect();
    assert_eq!(orphans.len(), 100);
    assert!(orphans.iter().all(|orphan| orphan.owner_references.iter().flatten().next().is_none()));
    world.stop().await;
}

#[tokio::test]
async fn pods_of_a_silent_node_are_replaced() {
    let world = World::start_with(Config {
        node_monitor_grace: Duration::from_secs(1),
        pod_eviction_timeout: Duration::from_millis(300),
        ..Config::default()
    });
    world.api.insert(&namespace("web"));
    world.add_node("silent");
    world.add_node("alive");
    world.deploy(1);
    world.until("pod", |api| api.objects::<Pod>().len() == 1).await;
    world.run_pods("silent");
    let first = world.api.objects::<Pod>()[0].metadata.uid.clone();
    let mut beat = 0;
    let replaced = async {
        loop {
            beat += 1;
            world.heartbeat("alive", beat);
            let pods = living_pods(&world.api);
            if pods.len() == 1 && pods[0].metadata.uid != first {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(DEADLINE, replaced).await.expect("the pod is replaced in time");
    let nodes = world.api.objects::<Node>();
    let taints_of = |name: &str| {
        let node = nodes.iter().find(|node| node.metadata.name.as_deref() == Some(name)).unwrap();
        node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).map_or(0, Vec::len)
    };
    assert_eq!((taints_of("silent"), taints_of("alive")), (2, 0));
    world.stop().await;
}
