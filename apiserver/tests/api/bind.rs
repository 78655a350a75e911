//! Binding: a node is never overfilled, however many schedulers there are.

use serde_json::json;

use crate::harness::{TestServer, pod};

#[tokio::test]
async fn racing_schedulers_cannot_overfill_a_node() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.namespace("b").await;
    admin.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).await.expect(201);
    let status = json!({"status": {
        "capacity": {"cpu": "2", "memory": "1Gi", "pods": "10"},
        "allocatable": {"cpu": "2", "memory": "1Gi", "pods": "10"},
    }});
    admin.merge("/api/v1/nodes/n/status", &status).await.expect(200);
    let pods = "/api/v1/namespaces/b/pods";
    let names: Vec<_> = (0..6).map(|index| format!("p{index}")).collect();
    for name in &names {
        admin.post(pods, &pod(name, "600m")).await.expect(201);
    }
    let scheduler = server.user("system:kube-scheduler", None);
    let binding = json!({"target": {"kind": "Node", "name": "n"}});
    let paths: Vec<_> = names.iter().map(|name| format!("{pods}/{name}/binding")).collect();
    let answers = futures::future::join_all(paths.iter().map(|path| scheduler.post(path, &binding))).await;
    let bound = answers.iter().filter(|answer| answer.code == 201).count();
    assert_eq!(bound, 3, "2 CPUs hold three pods of 600m: {answers:?}");
    let refused = answers.iter().find(|answer| answer.code == 409).unwrap();
    assert!(refused.message().contains("insufficient cpu"), "{}", refused.message());
    let listed = admin.get(&format!("{pods}?fieldSelector=spec.nodeName%3Dn")).await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(3));
    // A pod that ended makes room.
    let first = listed["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
    let now = json!({"gracePeriodSeconds": 0});
    admin.delete(&format!("{pods}/{first}"), &now).await.expect(200);
    let waiting =
        names.iter().find(|name| !listed.to_string().contains(&format!("\"name\":\"{name}\""))).unwrap();
    scheduler.post(&format!("{pods}/{waiting}/binding"), &binding).await.expect(201);
    let twice = scheduler.post(&format!("{pods}/{waiting}/binding"), &binding).await;
    assert_eq!(twice.code, 409);
    server.stop().await;
}
