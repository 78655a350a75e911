//! A server for one test, and clients of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use apiserver::pki::{Bundle, ServerNames};
use apiserver::{Config, RunningServer, Server, ServiceRanges};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use store::memory::MemoryStore;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use transport::tls::{ClientIdentity, Pem};

/// Longest wait for a condition.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) bundle: Arc<Bundle>,
    shutdown: CancellationToken,
    running: RunningServer,
}

impl TestServer {
    /// Starts a server and waits until its initial objects are there.
    pub(crate) async fn start() -> Self {
        Self::start_on(MemoryStore::default(), Ipv4Addr::LOCALHOST).await
    }

    /// As [`TestServer::start`], on a store that other servers may use too.
    pub(crate) async fn start_on(store: MemoryStore, advertise: Ipv4Addr) -> Self {
        transport::install_crypto();
        let bundle = Arc::new(Bundle::generate().unwrap());
        let config = Config {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            advertise: advertise.into(),
            names: ServerNames::default(),
            bundle: Arc::clone(&bundle),
            ranges: ServiceRanges::default(),
            metrics: Arc::default(),
        };
        let shutdown = CancellationToken::new();
        let running = Server::start(config, Arc::new(store), shutdown.clone()).await.unwrap();
        let server = Self { address: running.local_addr, bundle, shutdown, running };
        let admin = server.admin();
        let ready = async {
            while admin.get("/api/v1/namespaces/default/services/kubernetes").await.code != 200 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, ready).await.expect("initial objects appear");
        server
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(DEADLINE, self.running.stopped()).await.expect("server stops");
    }

    pub(crate) fn identity(&self, user: &str, group: Option<&str>) -> ClientIdentity {
        let issued = self.bundle.issue_client(user, group).unwrap();
        let ca = Pem::from(self.bundle.ca_pem().to_owned());
        ClientIdentity::new(ca, Pem::from(issued.certificate_pem), Pem::from(issued.key_pem)).unwrap()
    }

    pub(crate) fn user(&self, user: &str, group: Option<&str>) -> Rest {
        Rest { address: self.address, identity: self.identity(user, group), token: None }
    }

    pub(crate) fn with_identity(&self, identity: ClientIdentity) -> Rest {
        Rest { address: self.address, identity, token: None }
    }

    pub(crate) fn admin(&self) -> Rest {
        self.user("kubernetes-admin", Some("system:masters"))
    }

    pub(crate) fn anonymous(&self, token: Option<String>) -> Rest {
        let identity = ClientIdentity::anonymous(Pem::from(self.bundle.ca_pem().to_owned())).unwrap();
        Rest { address: self.address, identity, token }
    }

    pub(crate) fn channel(&self, user: &str, group: Option<&str>) -> Channel {
        let url = format!("https://localhost:{}", self.address.port());
        transport::grpc::channel(&url, &self.identity(user, group)).unwrap()
    }

    pub(crate) fn controllers(&self) -> Channel {
        self.channel("system:kube-controller-manager", None)
    }
}

/// A REST client of one user; every request has a connection of its own.
pub(crate) struct Rest {
    address: SocketAddr,
    identity: ClientIdentity,
    token: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) body: Value,
}

impl Answer {
    #[track_caller]
    pub(crate) fn expect(self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", self.body);
        self.body
    }

    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

impl Rest {
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "application/json", Vec::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, "application/json", body.to_string().into_bytes()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, "application/json", body.to_string().into_bytes()).await
    }

    pub(crate) async fn merge(&self, path: &str, body: &Value) -> Answer {
        self.send("PATCH", path, "application/merge-patch+json", body.to_string().into_bytes()).await
    }

    pub(crate) async fn delete(&self, path: &str, body: &Value) -> Answer {
        self.send("DELETE", path, "application/json", body.to_string().into_bytes()).await
    }

    pub(crate) async fn namespace(&self, name: &str) {
        self.post("/api/v1/namespaces", &json!({"metadata": {"name": name}})).await.expect(201);
        let account = json!({"metadata": {"name": "default"}});
        self.post(&format!("/api/v1/namespaces/{name}/serviceaccounts"), &account).await.expect(201);
    }

    pub(crate) async fn send(&self, method: &str, path: &str, media_type: &str, body: Vec<u8>) -> Answer {
        let response = self.open(method, path, media_type, body).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        Answer { code, body: serde_json::from_slice(&bytes).unwrap_or_else(|_| text()) }
    }

    /// Sends a request and returns the response with its body still to come.
    pub(crate) async fn open(
        &self,
        method: &str,
        path: &str,
        media_type: &str,
        body: Vec<u8>,
    ) -> http::Response<hyper::body::Incoming> {
        let stream = self.connect().await;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        request = request.header("content-type", media_type);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        tokio::time::timeout(DEADLINE, sender.send_request(request))
            .await
            .expect("an answer in time")
            .unwrap()
    }

    pub(crate) async fn connect(&self) -> tokio_rustls::client::TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let connector = TlsConnector::from(self.identity.config_with_alpn(&[b"http/1.1"]));
        connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap()
    }
}

/// Returns a pod without any wish.
pub(crate) fn pod(name: &str, cpu: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]},
    })
}
