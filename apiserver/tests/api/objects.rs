//! Objects through REST: creating, listing, changing and deleting, with upstream's answers.

use std::collections::BTreeSet;

use serde_json::json;

use crate::harness::TestServer;

const MAPS: &str = "/api/v1/namespaces/lw/configmaps";

#[tokio::test]
async fn an_object_lives_as_upstream_says() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.namespace("lw").await;
    let map = json!({"metadata": {"name": "c1"}, "data": {"k": "v"}});
    let created = admin.post(MAPS, &map).await.expect(201);
    assert_eq!(created["kind"], "ConfigMap");
    assert_eq!(created["metadata"]["namespace"], "lw");
    let again = admin.post(MAPS, &map).await;
    assert_eq!((again.code, again.message()), (409, "configmaps \"c1\" already exists"));
    let path = format!("{MAPS}/c1");
    assert_eq!(admin.get(&path).await.expect(200), created);
    // A change that changes nothing makes no revision; a real one does.
    let same = admin.merge(&path, &json!({"data": {"k": "v"}})).await.expect(200);
    assert_eq!(same["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
    let changed = admin.merge(&path, &json!({"data": {"k": "w"}})).await.expect(200);
    assert_ne!(changed["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
    let stale = admin.put(&path, &created).await;
    assert_eq!(stale.code, 409);
    assert!(stale.message().ends_with("please apply your changes to the latest version and try again"));
    let wrong = json!({"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}});
    assert_eq!(admin.delete(&path, &wrong).await.code, 409);
    let gone = admin.delete(&path, &json!({})).await.expect(200);
    assert_eq!((gone["kind"].as_str(), gone["status"].as_str()), (Some("Status"), Some("Success")));
    let missing = admin.get(&path).await;
    assert_eq!((missing.code, missing.message()), (404, "configmaps \"c1\" not found"));
    server.stop().await;
}

#[tokio::test]
async fn pages_show_one_revision() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.namespace("lw").await;
    for index in 0..7 {
        admin.post(MAPS, &json!({"metadata": {"name": format!("c{index}")}})).await.expect(201);
    }
    let first = admin.get(&format!("{MAPS}?limit=3")).await.expect(200);
    assert_eq!(first["items"].as_array().map(Vec::len), Some(3));
    assert_eq!(first["metadata"]["remainingItemCount"], 4);
    admin.delete(&format!("{MAPS}/c5"), &json!({})).await.expect(200);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = admin.get(&format!("{MAPS}?limit=9&continue={token}")).await.expect(200);
    assert_eq!(
        rest["items"].as_array().map(Vec::len),
        Some(4),
        "the deleted object is still on the first page's revision"
    );
    assert_eq!(rest["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let garbage = admin.get(&format!("{MAPS}?continue=garbage")).await;
    assert_eq!(garbage.code, 400);
    let future = admin.get(&format!("{MAPS}?resourceVersion=99999999")).await;
    assert_eq!(
        (future.code, future.body["details"]["causes"][0]["reason"].as_str()),
        (504, Some("ResourceVersionTooLarge"))
    );
    server.stop().await;
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_gone() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.namespace("lw").await;
    let path = format!("{MAPS}/f");
    let map = json!({"metadata": {"name": "f", "finalizers": ["example.com/a"]}});
    admin.post(MAPS, &map).await.expect(201);
    let pending = admin.delete(&path, &json!({})).await.expect(200);
    assert!(pending["metadata"]["deletionTimestamp"].is_string());
    let added =
        admin.merge(&path, &json!({"metadata": {"finalizers": ["example.com/a", "example.com/b"]}})).await;
    assert_eq!(added.code, 422);
    assert_eq!(
        admin.post(MAPS, &map).await.message(),
        "object is being deleted: configmaps \"f\" already exists"
    );
    admin.merge(&path, &json!({"metadata": {"finalizers": null}})).await.expect(200);
    assert_eq!(admin.get(&path).await.code, 404);
    server.stop().await;
}

#[tokio::test]
async fn an_ending_namespace_takes_no_new_objects_and_some_never_end() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.namespace("lw").await;
    let absent = admin.post("/api/v1/namespaces/nope/configmaps", &json!({"metadata": {"name": "x"}})).await;
    assert_eq!((absent.code, absent.message()), (404, "namespaces \"nope\" not found"));
    let ending = admin.delete("/api/v1/namespaces/lw", &json!({})).await.expect(200);
    assert_eq!(ending["status"]["phase"], "Terminating");
    let refused = admin.post(MAPS, &json!({"metadata": {"name": "y"}})).await;
    assert_eq!(refused.code, 403);
    assert_eq!(refused.body["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let finalized = json!({"metadata": {"name": "lw"}, "spec": {"finalizers": []}});
    admin.put("/api/v1/namespaces/lw/finalize", &finalized).await.expect(200);
    assert_eq!(admin.get("/api/v1/namespaces/lw").await.code, 404);
    assert_eq!(admin.delete("/api/v1/namespaces/default", &json!({})).await.code, 403);
    server.stop().await;
}

#[tokio::test]
async fn unknown_fields_warn_or_fail_and_dry_runs_leave_nothing() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.namespace("lw").await;
    let odd = json!({"metadata": {"name": "s"}, "foo": 1});
    let strict = admin.post(&format!("{MAPS}?fieldValidation=Strict"), &odd).await;
    assert_eq!(strict.code, 400);
    assert!(
        strict.message().contains("strict decoding error: unknown field \"foo\""),
        "{}",
        strict.message()
    );
    admin.post(&format!("{MAPS}?dryRun=All"), &odd).await.expect(201);
    assert_eq!(admin.get(&format!("{MAPS}/s")).await.code, 404);
    assert_eq!(
        admin.send("PATCH", &format!("{MAPS}/s"), "application/apply-patch+yaml", Vec::new()).await.code,
        415
    );
    server.stop().await;
}

#[tokio::test]
async fn services_made_at_once_never_share_an_address() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.namespace("lw").await;
    let path = "/api/v1/namespaces/lw/services";
    let service = |index: usize| {
        json!({
            "metadata": {"name": format!("s{index}")},
            "spec": {"type": "NodePort", "ports": [{"port": 80}], "selector": {"a": "b"}},
        })
    };
    let bodies: Vec<_> = (0..12).map(service).collect();
    let answers = futures::future::join_all(bodies.iter().map(|body| admin.post(path, body))).await;
    let mut addresses = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for answer in answers {
        let created = answer.expect(201);
        assert!(addresses.insert(created["spec"]["clusterIP"].to_string()));
        assert!(ports.insert(created["spec"]["ports"][0]["nodePort"].to_string()));
    }
    // An address is free again in the moment its service is gone.
    let kept = admin.get(&format!("{path}/s0")).await.expect(200)["spec"]["clusterIP"].clone();
    let wanted = json!({"metadata": {"name": "again"}, "spec": {"clusterIP": kept, "ports": [{"port": 80}]}});
    assert_eq!(admin.post(path, &wanted).await.code, 422);
    admin.delete(&format!("{path}/s0"), &json!({})).await.expect(200);
    admin.post(path, &wanted).await.expect(201);
    server.stop().await;
}
