//! The fake, the client and the reflector together: each test is a fact about the three over the real wire.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::cache::Cache;
use crate::leader_lock::{LeaderLock, LeaderLockConfig};
use crate::options::{DeleteOptions, Fence, ListOptions, WriteOptions};
use crate::reflector::{Reflector, ReflectorOptions};

const DEADLINE: Duration = Duration::from_secs(20);

fn config_map(name: &str) -> ConfigMap {
    let mut object = ConfigMap::default();
    object.metadata.namespace = Some("ns".into());
    object.metadata.name = Some(name.into());
    object
}

fn follow(api: &FakeApi, tasks: &mut JoinSet<()>) -> Cache<ConfigMap> {
    Reflector::spawn(api.client(), ReflectorOptions::default(), tasks, CancellationToken::new())
}

#[tokio::test]
async fn reflector_sees_writes_in_order_and_survives_compaction() {
    let api = FakeApi::start();
    let client = api.client();
    let mut tasks = JoinSet::new();
    let cache = follow(&api, &mut tasks);
    timeout(DEADLINE, cache.wait_synced()).await.unwrap();
    let created = client.create(&config_map("a"), &WriteOptions::default()).await.unwrap();
    timeout(DEADLINE, cache.wait_for_revision(crate::object::revision(&created))).await.unwrap();
    assert_eq!(cache.get("ns", "a").as_deref(), Some(&created));

    api.hold_watches(true);
    // The watch that waits now may still hand out one batch; the hold is certain for the ones after.
    api.insert(&config_map("b"));
    api.insert(&config_map("c"));
    api.remove::<ConfigMap>("ns", "a");
    api.compact();
    api.hold_watches(false);
    timeout(DEADLINE, cache.ensure_revision(api.revision())).await.unwrap();
    let names: Vec<_> = cache.list().iter().filter_map(|object| object.metadata.name.clone()).collect();
    assert_eq!(names, ["b", "c"]);
}

#[tokio::test]
async fn lost_answer_of_a_keyed_create_makes_no_second_object() {
    let api = FakeApi::start();
    api.inject(Fault::LoseAnswer);
    let mut object = config_map("");
    object.metadata.name = None;
    object.metadata.generate_name = Some("g-".into());
    let options = WriteOptions { idempotency_key: Some("k".into()), ..WriteOptions::default() };
    let created = api.client().create(&object, &options).await.unwrap();
    assert_eq!(api.objects::<ConfigMap>(), [created]);
}

#[tokio::test]
async fn lost_answer_of_a_plain_create_is_outcome_unknown() {
    let api = FakeApi::start();
    api.inject(Fault::LoseAnswer);
    let error = api.client().create(&config_map("a"), &WriteOptions::default()).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error}");
    assert_eq!(api.objects::<ConfigMap>().len(), 1);
}

#[tokio::test]
async fn refused_write_is_sent_again() {
    let api = FakeApi::start();
    api.inject(Fault::Refuse);
    api.client().create(&config_map("a"), &WriteOptions::default()).await.unwrap();
}

#[tokio::test]
async fn write_of_a_deposed_leader_is_fenced_out() {
    let api = FakeApi::start();
    let lock = LeaderLock::new(
        api.client(),
        LeaderLockConfig { lock: "l".into(), identity: "me".into(), ttl: Duration::from_secs(6) },
    );
    let tenure = timeout(DEADLINE, lock.acquire()).await.unwrap();
    let fenced = WriteOptions { fence: Some(tenure.fence()), ..WriteOptions::default() };
    api.client().create(&config_map("a"), &fenced).await.unwrap();
    api.depose("l");
    let error = api.client().create(&config_map("b"), &fenced).await.unwrap_err();
    assert!(error.is_fenced_out(), "{error}");
    timeout(DEADLINE, tenure.lost.cancelled()).await.unwrap();
    let stale = Fence { lock: "l".into(), epoch: 0 };
    assert_ne!(tenure.fence(), stale);
}

#[tokio::test]
async fn bound_pod_waits_for_its_node_and_selectors_select() {
    let api = FakeApi::start();
    let client = api.client();
    let mut pod = Pod::default();
    pod.metadata.namespace = Some("ns".into());
    pod.metadata.name = Some("p".into());
    let pod = api.insert(&pod);
    let uid = pod.metadata.uid.clone().unwrap();
    client.bind("ns", "p", &uid, "n1", &WriteOptions::default()).await.unwrap();
    let again = client.bind("ns", "p", &uid, "n2", &WriteOptions::default()).await.unwrap_err();
    assert!(again.is_conflict());
    let on_node = ListOptions { field_selector: "spec.nodeName=n1".into(), ..ListOptions::default() };
    assert_eq!(client.list::<Pod>("", &on_node).await.unwrap().items.len(), 1);

    let plain = WriteOptions::default();
    client.delete::<Pod>("ns", "p", &DeleteOptions::default(), &plain).await.unwrap();
    assert!(client.get::<Pod>("ns", "p").await.unwrap().metadata.deletion_timestamp.is_some());
    let now = DeleteOptions { uid: Some(uid), grace_seconds: Some(0), ..DeleteOptions::default() };
    client.delete::<Pod>("ns", "p", &now, &plain).await.unwrap();
    assert!(client.get::<Pod>("ns", "p").await.unwrap_err().is_not_found());
}
