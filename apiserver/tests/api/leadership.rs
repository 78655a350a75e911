//! Locks, fences and idempotency keys over gRPC.

use proto::keelson::api_client::ApiClient;
use proto::keelson::leadership_client::LeadershipClient;
use proto::keelson::{
    AcquireRequest, CreateRequest, Encoding, Fence, ReleaseRequest, RenewRequest, ResourceType,
    UpdateRequest, WriteOptions,
};
use serde_json::{Value, json};

use crate::harness::TestServer;

fn create(name: &str, fence: Option<Fence>, idempotency_key: &str) -> CreateRequest {
    CreateRequest {
        r#type: Some(ResourceType {
            group: String::new(),
            version: "v1".to_owned(),
            resource: "configmaps".to_owned(),
        }),
        namespace: "default".to_owned(),
        encoding: Encoding::Json.into(),
        raw: json!({"metadata": {"generateName": name}}).to_string().into(),
        options: Some(WriteOptions { fence, ..WriteOptions::default() }),
        idempotency_key: idempotency_key.to_owned(),
        ..CreateRequest::default()
    }
}

#[tokio::test]
async fn a_leader_whose_epoch_is_over_writes_nothing() {
    let server = TestServer::start().await;
    let mut locks = LeadershipClient::new(server.controllers());
    let mut api = ApiClient::new(server.controllers());
    let acquire = |identity: &str| AcquireRequest {
        lock: "manager".to_owned(),
        identity: identity.to_owned(),
        ttl_seconds: 30,
    };
    let first = locks.acquire(acquire("a")).await.unwrap().into_inner();
    assert!(first.acquired);
    let second = locks.acquire(acquire("b")).await.unwrap().into_inner();
    assert_eq!((second.acquired, second.holder.as_str()), (false, "a"));
    let fence = |epoch| Some(Fence { lock: "manager".to_owned(), epoch });
    api.create(create("led-", fence(first.epoch), "")).await.unwrap();
    let renew = |identity: &str, epoch| RenewRequest {
        lock: "manager".to_owned(),
        identity: identity.to_owned(),
        epoch,
    };
    assert!(locks.renew(renew("a", first.epoch)).await.unwrap().into_inner().held);
    assert!(!locks.renew(renew("b", first.epoch)).await.unwrap().into_inner().held);
    let release = ReleaseRequest { lock: "manager".to_owned(), identity: "a".to_owned(), epoch: first.epoch };
    locks.release(release).await.unwrap();
    let third = locks.acquire(acquire("b")).await.unwrap().into_inner();
    assert!(third.acquired);
    assert!(third.epoch > first.epoch);
    let refused = api.create(create("led-", fence(first.epoch), "")).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Aborted);
    let trailer = refused.metadata().get_bin("keelson-status-bin").unwrap().to_bytes().unwrap();
    let status: Value = serde_json::from_slice(&trailer).unwrap();
    assert_eq!(status["details"]["causes"][0]["reason"], "FencedOut");
    let metrics = server.admin().get("/metrics").await.expect(200);
    assert!(metrics.as_str().unwrap().contains("keelson_apiserver_fenced_out_total 1"));
    let maps = server.admin().get("/api/v1/namespaces/default/configmaps").await.expect(200);
    let led = maps["items"].as_array().unwrap().iter();
    assert_eq!(led.filter(|map| map["metadata"]["name"].as_str().unwrap().starts_with("led-")).count(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_leader_whose_epoch_is_over_hears_that_before_any_conflict() {
    let server = TestServer::start().await;
    let mut locks = LeadershipClient::new(server.controllers());
    let mut api = ApiClient::new(server.controllers());
    let acquire = AcquireRequest { lock: "manager".to_owned(), identity: "a".to_owned(), ttl_seconds: 30 };
    let epoch = locks.acquire(acquire).await.unwrap().into_inner().epoch;
    let made = api.create(create("led-", None, "")).await.unwrap().into_inner();
    let stale = |fence| UpdateRequest {
        r#type: create("", None, "").r#type,
        namespace: "default".to_owned(),
        name: made.name.clone(),
        encoding: Encoding::Json.into(),
        raw: json!({"metadata": {"name": made.name, "namespace": "default", "resourceVersion": "1"}})
            .to_string()
            .into(),
        options: Some(WriteOptions { fence, ..WriteOptions::default() }),
        ..UpdateRequest::default()
    };
    let causes = |refused: &tonic::Status| {
        let trailer = refused.metadata().get_bin("keelson-status-bin").unwrap().to_bytes().unwrap();
        let status: Value = serde_json::from_slice(&trailer).unwrap();
        assert_eq!(status["reason"], "Conflict");
        status["details"]["causes"].to_string()
    };
    let fence = || Some(Fence { lock: "manager".to_owned(), epoch });
    let refused = api.update(stale(fence())).await.unwrap_err();
    assert!(!causes(&refused).contains("FencedOut"), "who leads has a conflict like everybody");
    let release = ReleaseRequest { lock: "manager".to_owned(), identity: "a".to_owned(), epoch };
    locks.release(release).await.unwrap();
    let refused = api.update(stale(fence())).await.unwrap_err();
    assert!(causes(&refused).contains("FencedOut"), "{refused:?}");
    let metrics = server.admin().get("/metrics").await.expect(200);
    assert!(metrics.as_str().unwrap().contains("keelson_apiserver_fenced_out_total 1"));
    server.stop().await;
}

#[tokio::test]
async fn a_repeated_create_returns_the_first_object() {
    let server = TestServer::start().await;
    let mut api = ApiClient::new(server.controllers());
    let first = api.create(create("once-", None, "owner/1/0")).await.unwrap().into_inner();
    let repeat = api.create(create("once-", None, "owner/1/0")).await.unwrap().into_inner();
    assert_eq!((repeat.uid, repeat.name), (first.uid, first.name.clone()));
    let other = api.create(create("once-", None, "owner/1/1")).await.unwrap().into_inner();
    assert_ne!(other.name, first.name);
    server.stop().await;
}

#[tokio::test]
async fn nodes_may_not_lead() {
    let server = TestServer::start().await;
    let mut locks = LeadershipClient::new(server.channel("system:node:n1", Some("system:nodes")));
    let wanted = AcquireRequest { lock: "manager".to_owned(), identity: "n1".to_owned(), ttl_seconds: 10 };
    assert_eq!(locks.acquire(wanted).await.unwrap_err().code(), tonic::Code::PermissionDenied);
    server.stop().await;
}
