//! A hollow node against the in-memory API: everything but real containers.

use std::net::Ipv4Addr;
use std::time::Duration;

use client::fake::FakeApi;
use client::{DeleteOptions, WriteOptions};
use k8s_openapi::api::core::v1::{Node, Pod};
use nodeagent::{Agent, Config, Connection, RuntimeChoice};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(20);

async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn config(api: &FakeApi, dir: &std::path::Path) -> Config {
    let first_address = Ipv4Addr::new(10, 9, 0, 1);
    let runtime = RuntimeChoice::Hollow { first_address, start: Duration::from_millis(1) };
    Config::new("n1", dir, Connection::Client(api.client()), runtime)
}

fn pod(name: &str, spec: serde_json::Value) -> Pod {
    let metadata = json!({ "name": name, "namespace": "default" });
    serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
}

fn find(api: &FakeApi, name: &str) -> Option<Pod> {
    api.objects::<Pod>().into_iter().find(|pod| pod.metadata.name.as_deref() == Some(name))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}

#[tokio::test]
async fn hollow_node_registers_runs_and_deletes_pods() {
    let api = FakeApi::start();
    let dir = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    let agent = tokio::spawn(Agent::run(config(&api, dir.path()), shutdown.clone()));

    let ready = |node: &Node| {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
    };
    eventually("node is ready", || api.objects::<Node>().into_iter().find(ready)).await;

    // Nothing listens on a hollow node, and nothing fails for that.
    let asked = json!({ "httpGet": { "port": 80 }, "periodSeconds": 1 });
    let greeted = json!({ "postStart": { "httpGet": { "port": 80 } } });
    let web = json!({ "name": "c", "image": "i", "readinessProbe": asked, "lifecycle": greeted });
    api.insert(&pod("web", json!({ "nodeName": "n1", "containers": [web] })));
    api.insert(&pod("other", json!({ "nodeName": "n2", "containers": [{ "name": "c", "image": "i" }] })));
    let command = json!(["sh", "-c", "exit 0"]);
    let job = json!({ "nodeName": "n1", "restartPolicy": "Never", "containers": [
        { "name": "c", "image": "i", "command": command } ] });
    api.insert(&pod("job", job));
    let web = eventually("pod is ready", || find(&api, "web").filter(is_ready)).await;
    let status = web.status.clone().unwrap();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert!(status.pod_ip.unwrap().starts_with("10.9."));
    let phase = |name: &str| find(&api, name).and_then(|pod| pod.status).and_then(|status| status.phase);
    eventually("job succeeds", || (phase("job").as_deref() == Some("Succeeded")).then_some(())).await;
    assert_eq!(phase("other"), None, "another node's pod is not touched");

    let delete = DeleteOptions { uid: web.metadata.uid.clone(), ..DeleteOptions::default() };
    api.client().delete::<Pod>("default", "web", &delete, &WriteOptions::default()).await.unwrap();
    eventually("pod is gone", || find(&api, "web").is_none().then_some(())).await;

    shutdown.cancel();
    agent.await.unwrap().unwrap();
    assert!(find(&api, "job").is_some(), "objects stay when the node stops");
}

#[tokio::test]
async fn failing_containers_restart_and_are_counted() {
    let api = FakeApi::start();
    let dir = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    let agent = tokio::spawn(Agent::run(config(&api, dir.path()), shutdown.clone()));
    let command = json!(["sh", "-c", "exit 1"]);
    let spec = json!({ "nodeName": "n1", "containers": [{ "name": "c", "image": "i", "command": command }] });
    api.insert(&pod("crash", spec));
    let waiting = |pod: &Pod| {
        let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?.clone();
        let reason = status.state?.waiting?.reason?;
        Some((reason, status.restart_count))
    };
    let crashed =
        || find(&api, "crash").as_ref().and_then(waiting).filter(|(reason, _)| reason == "CrashLoopBackOff");
    let (_, restarts) = eventually("back-off", crashed).await;
    assert_eq!(restarts, 1);
    shutdown.cancel();
    agent.await.unwrap().unwrap();
}
