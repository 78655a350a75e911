//! Plain HTTP, health and reflection.

use std::sync::Arc;
use std::time::Duration;

use crate::harness::Server;
use futures::StreamExt;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::watch_request::RequestUnion;
use store::Member;
use store::admin::Admin;
use store::config::{Config, InitialMember};
use store::etcd::{Access, Allowed, Edge, EtcdOptions};
use store::memory::MemoryStore;
use store::mvcc::{Alarm, AlarmKind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

pub(super) fn written(request_line: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{request_line} HTTP/1.1\r\nhost: store\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
    )
}

/// Reads an answer to its end and returns status and body.
pub(super) async fn read(mut stream: impl AsyncRead + Unpin) -> (u16, String) {
    let mut answer = Vec::new();
    // Who ends a TLS connection may leave out its farewell.
    let _ended = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

impl Server {
    /// Sends a request by HTTP/1.1 and returns the open connection.
    pub(super) async fn send(&self, request_line: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        stream.write_all(written(request_line, headers, body).as_bytes()).await.unwrap();
        stream
    }

    /// Asks by HTTP/1.1 and returns status and body.
    pub(super) async fn ask(&self, request_line: &str, headers: &str, body: &str) -> (u16, String) {
        read(self.send(request_line, headers, body).await).await
    }
}

async fn check(server: &Server, path: &str, expected: (u16, &str)) {
    let (status, body) = server.ask(&format!("GET {path}"), "", "").await;
    assert_eq!((status, body.as_str()), expected, "{path}");
}

#[tokio::test]
async fn a_member_that_is_well_says_so_on_every_path() {
    let server = Server::start().await;
    let all =
        "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n";
    check(&server, "/health", (200, r#"{"health":"true","reason":""}"#)).await;
    check(&server, "/health?serializable=true&exclude=NOSPACE", (200, r#"{"health":"true","reason":""}"#))
        .await;
    check(&server, "/livez", (200, "ok\n")).await;
    check(&server, "/livez?verbose", (200, "[+]serializable_read ok\nok\n")).await;
    check(&server, "/readyz?verbose", (200, all)).await;
    check(
        &server,
        "/readyz?verbose&exclude=linearizable_read&exclude=non_learner",
        (200, "[+]data_corruption ok\n[+]serializable_read ok\nok\n"),
    )
    .await;
    check(&server, "/readyz/linearizable_read", (200, "ok\n")).await;
    check(&server, "/readyz/nonsense", (404, "404 page not found\n")).await;
    check(&server, "/nonsense", (404, "404 page not found\n")).await;
    assert_eq!(server.ask("POST /health", "", "").await, (405, "Method Not Allowed\n".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn an_alarm_is_a_reason_that_can_be_left_out() {
    let store = MemoryStore::new();
    let server = Server::of(Edge::new(&Arc::new(store.clone()))).await;
    let full = r#"{"health":"false","reason":"ALARM NOSPACE"}"#;
    let well = r#"{"health":"true","reason":""}"#;
    store.raise_alarm(Alarm { kind: AlarmKind::NoSpace, member: 1 }).await.unwrap();
    check(&server, "/health", (503, full)).await;
    check(&server, "/health?exclude=NOSPACE", (200, well)).await;
    check(&server, "/readyz", (200, "ok\n")).await;
    store.raise_alarm(Alarm { kind: AlarmKind::Corrupt, member: 1 }).await.unwrap();
    let corrupt = server.ask("GET /readyz/data_corruption", "", "").await;
    assert_eq!(corrupt, (503, "[-]data_corruption failed: alarm activated: CORRUPT\n".to_owned()));
    server.stop().await;
}

/// A member whose peers never came up: it has no leader.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_a_leader_is_alive_but_not_ready() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::single(directory.path().join("m"), "m", "127.0.0.1:0");
    config.initial_cluster.extend([1, 2].map(|port| InitialMember {
        name: format!("absent{port}"),
        peer_urls: vec![format!("http://127.0.0.1:{port}")],
    }));
    let member = Member::start(config, CancellationToken::new()).await.unwrap();
    let edge = Edge::new(&member);
    let server = Server::of(edge).await;
    let not_ready = "[+]data_corruption ok\n[+]serializable_read ok\n[-]linearizable_read failed: no leader\n[+]non_learner ok\n";
    check(&server, "/health", (503, r#"{"health":"false","reason":"RAFT NO LEADER"}"#)).await;
    check(&server, "/health?serializable=true", (200, r#"{"health":"true","reason":""}"#)).await;
    check(&server, "/livez", (200, "ok\n")).await;
    check(&server, "/readyz", (503, not_ready)).await;
    check(&server, "/readyz?exclude=linearizable_read", (200, "ok\n")).await;
    let mut health = HealthClient::new(server.channel());
    let status = health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::NotServing);
    drop(health);
    server.stop().await;
    member.stop().await;
}

#[tokio::test]
async fn version_and_metrics_are_told_by_both_versions_of_http() {
    let server = Server::start().await;
    let version = r#"{"etcdserver":"3.7.0","etcdcluster":"3.7.0","storage":"3.7.0"}"#;
    check(&server, "/version", (200, version)).await;
    let (status, metrics) = server.ask("GET /metrics", "", "").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("\netcd_server_has_leader 1\n"), "{metrics}");
    let stream = TokioIo::new(TcpStream::connect(&server.address).await.unwrap());
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let uri = format!("http://{}/version", server.address);
    let request = http::Request::get(uri).body(Empty::<bytes::Bytes>::new()).unwrap();
    let answer = client.send_request(request).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), version);
    drop(client);
    connection.await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_health_watch_hears_that_the_server_ends() {
    let server = Server::start().await;
    let mut health = HealthClient::new(server.channel());
    let request = HealthCheckRequest { service: "v3lockpb.Lock".to_owned() };
    let mut changes = health.watch(request).await.unwrap().into_inner();
    assert_eq!(changes.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    server.shutdown.cancel();
    assert_eq!(changes.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(changes.next().await.is_none());
    drop((health, changes));
    server.stop().await;
}

/// The older version has the same messages under another name, and tools that know only it.
#[tokio::test]
async fn reflection_is_answered_in_its_older_version_too() {
    use tonic_reflection::pb::v1alpha::ServerReflectionRequest;
    use tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1alpha::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1alpha::server_reflection_response::MessageResponse;
    let server = Server::start().await;
    let mut client = ServerReflectionClient::new(server.channel());
    let ask = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let requests = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("etcdserverpb.KV".to_owned())),
    ];
    let answers = client.server_reflection_info(futures::stream::iter(requests)).await.unwrap();
    let answers: Vec<_> =
        answers.into_inner().map(|answer| answer.unwrap().message_response.unwrap()).collect().await;
    let MessageResponse::ListServicesResponse(list) = &answers[0] else { panic!("{answers:?}") };
    assert!(list.service.iter().any(|service| service.name == "etcdserverpb.KV"), "{list:?}");
    assert!(matches!(&answers[1], MessageResponse::FileDescriptorResponse(_)), "{answers:?}");
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn reflection_lists_what_is_served_and_describes_it() {
    let server = Server::start().await;
    let mut client = ServerReflectionClient::new(server.channel());
    let ask = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let requests = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("v3electionpb.Election".to_owned())),
        ask(MessageRequest::FileContainingSymbol("keelson.raft.v1.Peer".to_owned())),
    ];
    let answers = client.server_reflection_info(futures::stream::iter(requests)).await.unwrap();
    let answers: Vec<_> =
        answers.into_inner().map(|answer| answer.unwrap().message_response.unwrap()).collect().await;
    let MessageResponse::ListServicesResponse(list) = &answers[0] else { panic!("{answers:?}") };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    let [ours, health] = ["keelson.store.v1.Members", "grpc.health.v1.Health"];
    for name in ["etcdserverpb.KV", "v3lockpb.Lock", "v3electionpb.Election", health, ours] {
        assert!(names.contains(&name), "{names:?}");
    }
    let others = names.iter().filter(|name| name.starts_with("keelson") && **name != ours);
    assert_eq!(others.count(), 0, "not served here: {names:?}");
    assert!(matches!(&answers[1], MessageResponse::FileDescriptorResponse(_)), "{answers:?}");
    drop(client);
    server.stop().await;
}

/// Sends a request for `host` and returns status and head of the answer.
async fn answered(server: &Server, request_line: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    let request =
        format!("{request_line} HTTP/1.1\r\nconnection: close\r\n{headers}content-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer.to_lowercase())
}

#[tokio::test]
async fn pages_of_allowed_origins_may_read_answers() {
    let all = Server::start().await;
    for line in ["GET /health", "GET /version", "POST /v3/kv/range", "GET /nowhere"] {
        let (_, head) = answered(&all, line, "host: x\r\norigin: http://any\r\n").await;
        assert!(head.contains("access-control-allow-origin: *\r\n"), "{line}: {head}");
        assert!(head.contains("access-control-allow-headers: accept, content-type, authorization\r\n"));
    }
    let (status, head) = answered(&all, "OPTIONS /v3/kv/range", "host: x\r\norigin: http://any\r\n").await;
    assert!(
        status == 200 && head.contains("access-control-allow-methods: post, get, options, put, delete\r\n")
    );
    all.stop().await;

    let access = Access { origins: Allowed::read(&["http://known".to_owned()]), ..Access::default() };
    let options = EtcdOptions { access, ..EtcdOptions::default() };
    let some = Server::with_options(Edge::new(&Arc::new(MemoryStore::new())), options).await;
    let (_, head) = answered(&some, "GET /health", "host: x\r\norigin: http://known\r\n").await;
    assert!(head.contains("access-control-allow-origin: http://known\r\n"), "{head}");
    for stranger in ["origin: http://other\r\n", ""] {
        let (status, head) = answered(&some, "GET /health", &format!("host: x\r\n{stranger}")).await;
        assert!(status == 200 && !head.contains("access-control"), "{stranger}: {head}");
    }
    some.stop().await;
}

#[tokio::test]
async fn a_name_that_leads_here_and_is_not_ours_is_not_answered() {
    let access = Access { hosts: Allowed::read(&["localhost".to_owned()]), ..Access::default() };
    let options = EtcdOptions { access, ..EtcdOptions::default() };
    let server = Server::with_options(Edge::new(&Arc::new(MemoryStore::new())), options).await;
    assert_eq!(answered(&server, "GET /health", "host: localhost:2379\r\n").await.0, 200);
    for line in ["GET /health", "POST /v3/kv/range", "GET /nowhere"] {
        let (status, answer) = answered(&server, line, "host: attacker.example:80\r\n").await;
        assert_eq!(status, 421, "{line}");
        assert!(answer.contains("--host-whitelist \"attacker.example\""), "{answer}");
    }
    // gRPC is not asked: a page cannot speak it.
    let mut health = HealthClient::new(server.channel());
    health.check(HealthCheckRequest { service: String::new() }).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_has_as_many_watches_open_as_it_likes() {
    let server = Server::start().await;
    let mut watches = Vec::new();
    for _ in 0..1500 {
        let mut client = WatchClient::new(server.channel());
        let create = pb::WatchCreateRequest { key: "k".into(), ..pb::WatchCreateRequest::default() };
        let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let open = futures::stream::iter([request]).chain(futures::stream::pending());
        let opened = tokio::time::timeout(Duration::from_secs(30), client.watch(open)).await;
        watches.push(opened.expect("a stream opens").unwrap().into_inner());
    }
    for watch in &mut watches {
        assert!(watch.message().await.unwrap().unwrap().created);
    }
    drop(watches);
    server.stop().await;
}
