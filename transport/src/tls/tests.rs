//! Handshakes over real sockets: who is let in, who is seen as whom, and what a reload changes.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls_pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

use super::{ClientIdentity, Pem, ServerTls, ServerTlsSource};
use crate::accept::{ServeOptions, serve};
use crate::peer::Peer;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
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
        let (certificate, key) = self.issue("server", "servers");
        ServerTls::new(ServerTlsSource { certificate, key, client_ca: Some(self.pem()) }).unwrap()
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

#[tokio::test]
async fn reload_serves_the_new_certificate_and_keeps_the_old_one_when_it_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate_file, key_file) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let write = |authority: &Authority| {
        let (certificate, key) = authority.issue("server", "servers");
        std::fs::write(&certificate_file, certificate.load().unwrap()).unwrap();
        std::fs::write(&key_file, key.load().unwrap()).unwrap();
    };
    let (old, new) = (Authority::new(), Authority::new());
    write(&old);
    let tls = ServerTls::new(ServerTlsSource {
        certificate: Pem::File(certificate_file.clone()),
        key: Pem::File(key_file.clone()),
        client_ca: None,
    })
    .unwrap();
    let server = Running::start(tls.clone()).await;
    let (trusts_old, trusts_new) =
        (ClientIdentity::anonymous(old.pem()).unwrap(), ClientIdentity::anonymous(new.pem()).unwrap());
    assert!(server.ask(&trusts_old).await.is_ok());
    write(&new);
    tls.reload().unwrap();
    assert!(server.ask(&trusts_new).await.is_ok());
    assert!(server.ask(&trusts_old).await.is_err());
    std::fs::write(&certificate_file, "garbage").unwrap();
    assert!(tls.reload().is_err());
    assert!(server.ask(&trusts_new).await.is_ok());
    server.stop().await;
}
