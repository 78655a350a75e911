//! The same with TLS, and on ports of their own.

use std::sync::Arc;

use rustls_pki_types::ServerName;
use store::etcd::{AuthOptions, CertificateNames, Edge};
use store::memory::MemoryStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use transport::tls::ClientIdentity;

use super::plain::{read, written};
use crate::harness::{Certificates, Program, Server, free_port, until, url};

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
    let _reset = plain.read_to_end(&mut answer).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_says_by_its_urls_where_certificates_are_wanted_and_renews_its_own() {
    let certificates = Certificates::new();
    certificates.issue("server");
    certificates.issue("alice");
    let data = tempfile::tempdir().unwrap();
    let [plain, http, secure, peer] = std::array::from_fn(|_| free_port());
    let file = |name: &str| certificates.file(name).display().to_string();
    let program = Program::start([
        format!("--data-dir={}", data.path().join("m").display()),
        format!("--listen-client-urls={},https://127.0.0.1:{secure}", url(plain)),
        format!("--listen-client-http-urls={}", url(http)),
        format!("--listen-peer-urls={}", url(peer)),
        format!("--cert-file={}", file("server.crt")),
        format!("--key-file={}", file("server.key")),
        format!("--trusted-ca-file={}", file("ca.crt")),
        "--tls-min-version=TLS1.3".to_owned(),
    ]);
    for port in [plain, http] {
        until("a member that is ready", async || {
            (ask_plain(port, "/readyz").await? == (200, "ok\n".to_owned())).then_some(())
        })
        .await;
    }
    let address = format!("127.0.0.1:{secure}");
    let [ca, certificate, key] = ["ca.crt", "alice.crt", "alice.key"].map(|name| certificates.file(name));
    let alice = ClientIdentity::from_files(ca, certificate, key).unwrap();
    assert_eq!(ask(&address, &alice, "GET /health", "").await.0, 200);
    let refused = try_ask(&address, &certificates.anonymous()).await.unwrap_err();
    assert!(refused.contains("CertificateRequired"), "{refused}");

    let before = shown(&address, &alice).await;
    certificates.issue("server");
    until("the new certificate", async || (shown(&address, &alice).await != before).then_some(())).await;
    assert_eq!(ask(&address, &alice, "GET /health", "").await.0, 200);
    program.stop().await;
}

/// Returns the certificate that a server shows.
async fn shown(address: &str, client: &ClientIdentity) -> Vec<u8> {
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(client.config());
    let stream = connector.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// Asks until the connection ends, and says what it ended with.
async fn try_ask(address: &str, client: &ClientIdentity) -> Result<Vec<u8>, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(client.config_with_alpn(&[b"http/1.1".as_slice()]));
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let asked = async {
        stream.write_all(written("GET /health", "", "").as_bytes()).await?;
        stream.read_to_end(&mut answer).await
    };
    asked.await.map_err(|error| error.to_string())?;
    Ok(answer)
}

/// Whether a member speaks to a caller that shows this certificate.
async fn is_spoken_to(peer: u16, caller: &ClientIdentity) -> bool {
    let stream = TcpStream::connect(("127.0.0.1", peer)).await.unwrap();
    let connector = TlsConnector::from(caller.config_with_alpn(&[b"h2".as_slice()]));
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let Ok(mut stream) = connector.connect(name, stream).await else { return false };
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.is_ok()
        && stream.read_u8().await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_speak_only_to_those_whose_certificates_have_an_allowed_name() {
    let certificates = Certificates::new();
    ["one", "two", "stranger"].iter().for_each(|name| certificates.issue(name));
    let data = tempfile::tempdir().unwrap();
    let members = ["one", "two"].map(|name| (name, free_port(), free_port()));
    let cluster = members.map(|(name, _, peer)| format!("{name}=https://127.0.0.1:{peer}")).join(",");
    let file = |name: &str, end: &str| certificates.file(&format!("{name}.{end}"));
    let programs = members.map(|(name, client, peer)| {
        Program::start([
            format!("--name={name}"),
            format!("--data-dir={}", data.path().join(name).display()),
            format!("--listen-client-urls={}", url(client)),
            format!("--listen-peer-urls=https://127.0.0.1:{peer}"),
            format!("--initial-cluster={cluster}"),
            format!("--peer-cert-file={}", file(name, "crt").display()),
            format!("--peer-key-file={}", file(name, "key").display()),
            format!("--peer-trusted-ca-file={}", file("ca", "crt").display()),
            "--peer-cert-allowed-cn=one,two".to_owned(),
        ])
    });
    for (_, client, peer) in members {
        until("a member that is well", async || (ask_plain(client, "/health").await?.0 == 200).then_some(()))
            .await;
        let caller = |name| {
            ClientIdentity::from_files(file("ca", "crt"), file(name, "crt"), file(name, "key")).unwrap()
        };
        assert!(is_spoken_to(peer, &caller("two")).await);
        assert!(!is_spoken_to(peer, &caller("stranger")).await);
    }
    programs.iter().for_each(Program::end);
    for program in programs {
        program.stop().await;
    }
}
