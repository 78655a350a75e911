//! Handshakes over real sockets: who is let in, who is seen as whom, and what renewed files change.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls_pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

use super::{
    AllowedNames, ClientCertificates, ClientIdentity, Pem, ServerTls, ServerTlsSource, TlsPolicy, TlsVersion,
};
use crate::accept::{ServeOptions, serve};
use crate::peer::Peer;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> Pem {
        Pem::from(self.0.pem())
    }

    fn issue(&self, common_name: &str, group: &str) -> (Pem, Pem) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (Pem::from(certificate.pem()), Pem::from(key.serialize_pem()))
    }

    fn client(&self, common_name: &str, group: &str) -> ClientIdentity {
        let (certificate, key) = self.issue(common_name, group);
        ClientIdentity::new(self.pem(), certificate, key).unwrap()
    }

    fn server(&self) -> ServerTls {
        self.server_with(ClientCertificates::Optional(self.pem()), TlsPolicy::default())
    }

    fn server_with(&self, clients: ClientCertificates, policy: TlsPolicy) -> ServerTls {
        let (certificate, key) = self.issue("server", "servers");
        ServerTls::new(ServerTlsSource { certificate, key, clients, policy }).unwrap()
    }
}

/// Answers every request with `CN/O` of the caller.
async fn who_am_i(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let peer = request.extensions().get::<Peer>().expect("the accept loop adds it");
    let name = match peer.subject() {
        Some(subject) => format!("{}/{}", subject.common_name, subject.organizations.join(",")),
        None => "anonymous".to_owned(),
    };
    Ok(Response::new(Full::new(Bytes::from(name))))
}

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(tls: ServerTls) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let service = tower::service_fn(who_am_i);
        let served = serve(listener, Some(tls), service, ServeOptions::default(), shutdown.clone());
        Self { address, shutdown, task: tokio::spawn(served) }
    }

    /// Sends one HTTP/1.1 request on a connection of its own.
    async fn ask(&self, identity: &ClientIdentity) -> Result<String, String> {
        let stream = TcpStream::connect(self.address).await.map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(identity.config_with_alpn(&[b"http/1.1"]));
        let name = ServerName::try_from("localhost").unwrap();
        let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let driver = tokio::spawn(connection);
        let request = Request::get("/").header("host", "localhost").body(Empty::<Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        driver.abort();
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn certificate_subject_names_the_caller() {
    let authority = Authority::new();
    let server = Running::start(authority.server()).await;
    assert_eq!(
        server.ask(&authority.client("system:node:a", "system:nodes")).await.unwrap(),
        "system:node:a/system:nodes"
    );
    let anonymous = ClientIdentity::anonymous(authority.pem()).unwrap();
    assert_eq!(server.ask(&anonymous).await.unwrap(), "anonymous");
    server.stop().await;
}

#[tokio::test]
async fn certificate_of_another_authority_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Running::start(authority.server()).await;
    let (certificate, key) = other.issue("kubernetes-admin", "system:masters");
    let intruder = ClientIdentity::new(authority.pem(), certificate, key).unwrap();
    assert!(server.ask(&intruder).await.is_err());
    let deceived = ClientIdentity::anonymous(other.pem()).unwrap();
    assert!(server.ask(&deceived).await.is_err());
    server.stop().await;
}

#[tokio::test]
async fn grpc_channel_reaches_the_server_over_http2() {
    let authority = Authority::new();
    let server = Running::start(authority.server()).await;
    let url = format!("https://localhost:{}", server.address.port());
    let mut channel = crate::grpc::channel(&url, &authority.client("agent", "nodes")).unwrap();
    let request = Request::post("/x").body(tonic::body::Body::empty()).unwrap();
    let response = channel.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(response.version(), http::Version::HTTP_2);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "agent/nodes");
    drop(channel);
    server.stop().await;
}

/// Asks until the answer is as wanted: changed files are seen at most a second later.
async fn until(server: &Running, identity: &ClientIdentity, is_let_in: bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.ask(identity).await.is_ok() != is_let_in {
        assert!(Instant::now() < deadline, "it should be let in: {is_let_in}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn renewed_certificates_are_used_by_both_ends() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let write = |authority: &Authority, kind: &str| {
        let (certificate, key) = authority.issue("server", "servers");
        std::fs::write(file(&format!("{kind}.crt")), certificate.load().unwrap()).unwrap();
        std::fs::write(file(&format!("{kind}.key")), key.load().unwrap()).unwrap();
        std::fs::write(file(&format!("{kind}.ca")), authority.pem().load().unwrap()).unwrap();
    };
    let (old, new) = (Authority::new(), Authority::new());
    write(&old, "server");
    write(&old, "client");
    let pem = |name: &str| Pem::File(file(name));
    let tls = ServerTls::new(ServerTlsSource {
        certificate: pem("server.crt"),
        key: pem("server.key"),
        clients: ClientCertificates::Required(pem("server.ca")),
        policy: TlsPolicy::default(),
    })
    .unwrap();
    let server = Running::start(tls).await;
    let client = ClientIdentity::new(pem("client.ca"), pem("client.crt"), pem("client.key")).unwrap();
    assert!(server.ask(&client).await.is_ok());
    write(&new, "server");
    until(&server, &client, false).await;
    write(&new, "client");
    until(&server, &client, true).await;
    server.stop().await;
}

#[tokio::test]
async fn who_must_show_a_certificate_is_not_let_in_without() {
    let authority = Authority::new();
    let required = ClientCertificates::Required(authority.pem());
    let server = Running::start(authority.server_with(required, TlsPolicy::default())).await;
    let anonymous = ClientIdentity::anonymous(authority.pem()).unwrap();
    assert!(server.ask(&anonymous).await.is_err());
    assert_eq!(server.ask(&authority.client("anna", "users")).await.unwrap(), "anna/users");
    server.stop().await;
}

#[tokio::test]
async fn only_certificates_with_allowed_names_are_let_in() {
    let authority = Authority::new();
    let cases = [
        (AllowedNames::CommonNames(vec!["anna".to_owned(), "bert".to_owned()]), [true, true, false]),
        (AllowedNames::Organization("users".to_owned()), [true, false, false]),
        (AllowedNames::Hosts(vec!["localhost".to_owned()]), [true, true, true]),
        (AllowedNames::Hosts(vec!["elsewhere".to_owned()]), [false, false, false]),
    ];
    for (allowed, expected) in cases {
        let said = format!("{allowed:?}");
        let policy = TlsPolicy { allowed: Some(allowed), ..TlsPolicy::default() };
        let clients = ClientCertificates::Optional(authority.pem());
        let server = Running::start(authority.server_with(clients, policy)).await;
        let callers = [("anna", "users"), ("bert", "others"), ("carl", "others")];
        for ((name, group), is_let_in) in callers.into_iter().zip(expected) {
            assert_eq!(server.ask(&authority.client(name, group)).await.is_ok(), is_let_in, "{said}: {name}");
        }
        let anonymous = ClientIdentity::anonymous(authority.pem()).unwrap();
        assert!(server.ask(&anonymous).await.is_err(), "{said}: who shows none has no name");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_revoked_certificate_is_refused() {
    let authority = Authority::new();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.serial_number = Some(SerialNumber::from(77));
    let key = KeyPair::generate().unwrap();
    let certificate = Pem::from(params.signed_by(&key, &authority.0).unwrap().pem());
    let taken_back =
        ClientIdentity::new(authority.pem(), certificate, Pem::from(key.serialize_pem())).unwrap();
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(2036, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(77),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&authority.0).unwrap();
    for list in [Pem::from(list.pem().unwrap()), Pem::Bytes(list.der().to_vec())] {
        let policy = TlsPolicy { revoked: Some(list), ..TlsPolicy::default() };
        let clients = ClientCertificates::Required(authority.pem());
        let server = Running::start(authority.server_with(clients, policy)).await;
        assert!(server.ask(&taken_back).await.is_err());
        assert!(server.ask(&authority.client("anna", "users")).await.is_ok());
        server.stop().await;
    }
}

#[tokio::test]
async fn versions_and_suites_are_as_chosen() {
    let authority = Authority::new();
    let cases = [
        (TlsPolicy { version_max: Some(TlsVersion::Tls12), ..TlsPolicy::default() }, "TLSv1_2", ""),
        (TlsPolicy { version_min: Some(TlsVersion::Tls13), ..TlsPolicy::default() }, "TLSv1_3", ""),
        (
            TlsPolicy {
                version_max: Some(TlsVersion::Tls12),
                cipher_suites: vec!["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256".to_owned()],
                ..TlsPolicy::default()
            },
            "TLSv1_2",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        ),
    ];
    for (policy, version, suite) in cases {
        let server = Running::start(authority.server_with(ClientCertificates::Unasked, policy)).await;
        let stream = TcpStream::connect(server.address).await.unwrap();
        let connector =
            TlsConnector::from(ClientIdentity::anonymous(authority.pem()).unwrap().config_with_alpn(&[]));
        let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
        let session = stream.get_ref().1;
        assert_eq!(format!("{:?}", session.protocol_version().unwrap()), version);
        let spoken = format!("{:?}", session.negotiated_cipher_suite().unwrap().suite());
        assert!(suite.is_empty() || spoken == suite, "{spoken}");
        server.stop().await;
    }
    let (certificate, key) = authority.issue("server", "servers");
    let policy =
        TlsPolicy { cipher_suites: vec!["TLS_RSA_WITH_RC4_128_SHA".to_owned()], ..TlsPolicy::default() };
    let clients = ClientCertificates::Unasked;
    let refused =
        ServerTls::new(ServerTlsSource { certificate, key, clients, policy }).map(|_| ()).unwrap_err();
    let said = refused.to_string();
    assert!(
        said.contains("no cipher suite TLS_RSA_WITH_RC4_128_SHA") && said.contains("TLS_ECDHE_"),
        "{said}"
    );
}
