//! The same with TLS, and on ports of their own.

use std::sync::Arc;

use rustls_pki_types::ServerName;
use store::etcd::{AuthOptions, CertificateNames, Edge};
use store::memory::MemoryStore;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use transport::tls::ClientIdentity;

use super::harness::{Certificates, Program, Server, free_port, until, url};
use super::{read, written};

async fn ask(address: &str, client: &ClientIdentity, request_line: &str, body: &str) -> (u16, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connector = TlsConnector::from(client.config_with_alpn(&[b"http/1.1".as_slice()]));
    let mut stream = connector.connect(name, stream).await.unwrap();
    stream.write_all(written(request_line, "", body).as_bytes()).await.unwrap();
    read(stream).await
}

#[tokio::test]
async fn http_and_json_are_served_with_tls() {
    let certificates = Certificates::new();
    certificates.issue("server");
    let auth = AuthOptions { certificate_names: CertificateNames::AreUsers, ..AuthOptions::default() };
    let edge = Edge::new(&Arc::new(MemoryStore::new())).with_auth(auth);
    let server = Server::with_tls(edge, certificates.server("server")).await;
    let client = certificates.anonymous();
    let (status, body) = ask(&server.address, &client, "GET /health", "").await;
    assert_eq!((status, body.as_str()), (200, r#"{"health":"true","reason":""}"#));
    let put = r#"{"key":"Zm9v","value":"YmFy"}"#;
    assert_eq!(ask(&server.address, &client, "POST /v3/kv/put", put).await.0, 200);
    let (status, found) = ask(&server.address, &client, "POST /v3/kv/range", r#"{"key":"Zm9v"}"#).await;
    assert!(status == 200 && found.contains(r#""value":"YmFy""#), "{found}");
    // Plain text is none of its languages.
    let mut plain = TcpStream::connect(&server.address).await.unwrap();
    plain.write_all(written("GET /health", "", "").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _reset = tokio::io::AsyncReadExt::read_to_end(&mut plain, &mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    server.stop().await;
}

async fn ask_plain(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(written(&format!("GET {path}"), "", "").as_bytes()).await.unwrap();
    Some(read(stream).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_and_checks_have_ports_of_their_own_with_tls_and_without() {
    let certificates = Certificates::new();
    certificates.issue("server");
    let data = tempfile::tempdir().unwrap();
    let [client, peer, plain, secure] = std::array::from_fn(|_| free_port());
    let file = |name: &str| certificates.file(name).display().to_string();
    let program = Program::start([
        format!("--data-dir={}", data.path().join("m").display()),
        format!("--listen-client-urls=https://127.0.0.1:{client}"),
        format!("--listen-peer-urls={}", url(peer)),
        format!("--listen-metrics-urls={},https://127.0.0.1:{secure}", url(plain)),
        format!("--cert-file={}", file("server.crt")),
        format!("--key-file={}", file("server.key")),
        // Everything is slow.
        "--warning-apply-duration=0s".to_owned(),
    ]);
    until("a member that is ready", async || {
        (ask_plain(plain, "/readyz").await? == (200, "ok\n".to_owned())).then_some(())
    })
    .await;
    let (status, metrics) = ask_plain(plain, "/metrics").await.unwrap();
    assert_eq!(status, 200);
    for line in [
        "etcd_server_is_leader 1",
        "etcd_server_leader_changes_seen_total 1",
        "etcd_server_proposals_committed_total ",
        "etcd_server_proposals_pending 0",
        "etcd_disk_wal_fsync_duration_seconds_count ",
        "etcd_disk_backend_commit_duration_seconds_count ",
    ] {
        assert!(metrics.contains(&format!("\n{line}")), "no {line} in\n{metrics}");
    }
    for counted in ["etcd_server_slow_read_indexes_total", "etcd_disk_wal_write_bytes_total"] {
        assert!(!metrics.contains(&format!("\n{counted} 0\n")), "no {counted} in\n{metrics}");
    }
    for other in ["/version", "/v3/kv/range"] {
        assert_eq!(ask_plain(plain, other).await.unwrap().0, 404, "{other} is for clients");
    }
    let address = format!("127.0.0.1:{secure}");
    let (status, body) = ask(&address, &certificates.anonymous(), "GET /health", "").await;
    assert_eq!((status, body.as_str()), (200, r#"{"health":"true","reason":""}"#));
    program.stop().await;
}
