//! Who gets in, and how far.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proto::keelson::JoinAgentRequest;
use proto::keelson::bootstrap_client::BootstrapClient;
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use transport::tls::{ClientIdentity, Pem};

use crate::harness::{TestServer, pod};

#[tokio::test]
async fn strangers_see_health_and_version_only() {
    let server = TestServer::start().await;
    let stranger = server.anonymous(None);
    assert_eq!(stranger.get("/livez").await.code, 200);
    assert_eq!(stranger.get("/version").await.expect(200)["minor"], "36");
    let refused = stranger.get("/api/v1/namespaces/default/secrets").await;
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.message(),
        "secrets is forbidden: User \"system:anonymous\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\""
    );
    assert_eq!(server.anonymous(Some("nonsense".to_owned())).get("/version").await.code, 401);
    server.stop().await;
}

#[tokio::test]
async fn a_pods_token_works_until_the_pod_is_gone() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.namespace("t").await;
    let made = admin.post("/api/v1/namespaces/t/pods", &pod("p", "1m")).await.expect(201);
    let volume = made["spec"]["volumes"][0]["name"].as_str().unwrap();
    assert!(volume.starts_with("kube-api-access-"));
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    let request =
        json!({"spec": {"boundObjectRef": {"kind": "Pod", "name": "p", "uid": made["metadata"]["uid"]}}});
    let answer = admin.post("/api/v1/namespaces/t/serviceaccounts/default/token", &request).await.expect(201);
    let token = answer["status"]["token"].as_str().unwrap().to_owned();
    let inside = server.anonymous(Some(token));
    assert_eq!(inside.get("/api").await.code, 200);
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let who = inside.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review).await.expect(201);
    assert_eq!(who["status"]["userInfo"]["username"], "system:serviceaccount:t:default");
    assert_eq!(inside.get("/api/v1/namespaces/t/pods").await.code, 403);
    admin.delete("/api/v1/namespaces/t/pods/p", &json!({"gracePeriodSeconds": 0})).await.expect(200);
    assert_eq!(inside.get("/api").await.code, 401);
    server.stop().await;
}

#[tokio::test]
async fn a_machine_with_a_join_token_becomes_its_node_and_no_other() {
    let server = TestServer::start().await;
    let url = format!("https://localhost:{}", server.address.port());
    let ca = Pem::from(server.bundle.ca_pem().to_owned());
    let anonymous = ClientIdentity::anonymous(ca.clone()).unwrap();
    let mut bootstrap = BootstrapClient::new(transport::grpc::channel(&url, &anonymous).unwrap());
    let key = KeyPair::generate().unwrap();
    let csr_pem = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let join =
        |token: String| JoinAgentRequest { token, node_name: "n1".to_owned(), csr_pem: csr_pem.clone() };
    let past = server.bundle.join_token(Timestamp::now() - SignedDuration::from_secs(60)).to_string();
    let expired = bootstrap.join_agent(join(past)).await.unwrap_err();
    assert_eq!(expired.code(), tonic::Code::Unauthenticated);
    assert!(expired.message().contains("expired"), "{}", expired.message());
    let token = server.bundle.join_token(Timestamp::now() + SignedDuration::from_secs(60)).to_string();
    let joined = bootstrap.join_agent(join(token)).await.unwrap().into_inner();
    let identity =
        ClientIdentity::new(ca, Pem::from(joined.certificate_pem), Pem::from(key.serialize_pem())).unwrap();
    let node = server.with_identity(identity);
    node.post("/api/v1/nodes", &json!({"metadata": {"name": "n1"}})).await.expect(201);
    assert_eq!(node.post("/api/v1/nodes", &json!({"metadata": {"name": "n2"}})).await.code, 403);
    assert_eq!(node.get("/api/v1/pods").await.code, 403);
    assert_eq!(node.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").await.code, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_node_reads_only_the_secrets_of_its_pods() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.namespace("s").await;
    for name in ["used", "other"] {
        admin.post("/api/v1/namespaces/s/secrets", &json!({"metadata": {"name": name}})).await.expect(201);
    }
    admin.post("/api/v1/nodes", &json!({"metadata": {"name": "n1"}})).await.expect(201);
    let mut with_secret = pod("p", "1m");
    with_secret["spec"]["nodeName"] = json!("n1");
    with_secret["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "used"}}]);
    admin.post("/api/v1/namespaces/s/pods", &with_secret).await.expect(201);
    let node = server.user("system:node:n1", Some("system:nodes"));
    assert_eq!(node.get("/api/v1/namespaces/s/secrets/used").await.code, 200);
    assert_eq!(node.get("/api/v1/namespaces/s/secrets/other").await.code, 403);
    assert_eq!(node.get("/api/v1/namespaces/s/secrets").await.code, 403);
    let stranger = server.user("system:node:n2", Some("system:nodes"));
    assert_eq!(stranger.get("/api/v1/namespaces/s/secrets/used").await.code, 403);
    server.stop().await;
}

#[tokio::test]
async fn bodies_beyond_the_limit_are_refused() {
    let server = TestServer::start().await;
    let admin = server.admin();
    let huge = json!({"metadata": {"name": "x"}, "data": {"k": "x".repeat(3 * 1024 * 1024)}});
    let answer = tokio::time::timeout(
        Duration::from_secs(20),
        admin.post("/api/v1/namespaces/default/configmaps", &huge),
    );
    assert_eq!(answer.await.unwrap().code, 413);
    server.stop().await;
}
