//! The running API server: configuration, wiring, and the chain that every request passes.
//!
//! ```text
//! panic → 500 │ audit id, metrics │ in-flight limit, deadline │ who (certificate, token) │ gRPC or REST
//!                                                                                          └ may they? → verb
//! ```

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use futures::FutureExt;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use prometheus_client::registry::Registry;
use store::kv::Kv;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{error, info, warn};
use transport::accept::{ServeOptions, serve, serve_connection};
use transport::outside::{Machine, Outside};
use transport::peer::Peer;
use transport::tls::{ClientCertificates, Pem, ServerTls, ServerTlsSource, TlsError, TlsPolicy};

use crate::admission::ServiceRanges;
use crate::bootstrap;
use crate::compaction;
use crate::endpoints::Api;
use crate::endpoints::status::Status;
use crate::grpc::{self, Services};
use crate::metrics::Metrics;
use crate::node_channel::NodeChannels;
use crate::pki::{Bundle, PkiError, ServerNames};
use crate::rest::{self, Rest};
use crate::servers;
use crate::storage::Storage;

/// Short requests at a time, as upstream (400 reading and 200 writing).
const INFLIGHT_MAX: usize = 600;
/// A short request that takes longer ends with 504, as upstream.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause before the initial objects are tried again while the store has no leader.
const BOOTSTRAP_RETRY: Duration = Duration::from_millis(200);
/// How long watches and terminals may take to end after shutdown.
const TASK_DRAIN: Duration = Duration::from_secs(5);

/// What a server needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to listen on; port 0 takes any.
    pub listen: SocketAddr,
    /// Address that the `kubernetes` service points to.
    pub advertise: IpAddr,
    /// Names in the server's certificate, beside the usual ones.
    pub names: ServerNames,
    pub bundle: Arc<Bundle>,
    pub ranges: ServiceRanges,
    /// Metrics of the other parts of this process, shown on `/metrics` with the server's own.
    pub metrics: Arc<Registry>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot make the server's certificate")]
    Pki(#[from] PkiError),
    #[error("cannot set up TLS")]
    Tls(#[from] TlsError),
}

/// Starts API servers.
pub struct Server;

/// A server that accepts connections.
pub struct RunningServer {
    /// Where it listens.
    pub local_addr: SocketAddr,
    tasks: JoinSet<()>,
}

impl RunningServer {
    /// Waits until the server has stopped, which the token given to [`Server::start`] asks for.
    pub async fn stopped(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Server {
    /// Binds, starts serving, and makes the initial objects in the background.
    ///
    /// # Errors
    /// When the address is taken or the certificate cannot be made.
    pub async fn start(
        config: Config,
        kv: Arc<dyn Kv>,
        shutdown: CancellationToken,
    ) -> Result<RunningServer, StartError> {
        let address = config.listen;
        let listen_error = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen_error)?;
        let local_addr = listener.local_addr().map_err(listen_error)?;
        let tls = server_tls(&config)?;
        let advertised = SocketAddr::new(config.advertise, local_addr.port());
        let Parts { chain, upgrades, mut tasks } =
            Parts::start(&config, advertised, kv, Machine::shared(), &shutdown)?;
        tasks.spawn(async move {
            let service = tower::service_fn(move |request| chain.clone().handle(request));
            serve(listener, Some(tls), service, ServeOptions::default(), shutdown).await;
            upgrades.close();
            if tokio::time::timeout(TASK_DRAIN, upgrades.wait()).await.is_err() {
                warn!("terminals still open after the drain time are dropped");
            }
        });
        info!(%local_addr, "API server listens");
        Ok(RunningServer { local_addr, tasks })
    }

    /// Starts everything but the port: connections come from whoever has accepted them and knows who is at their other end. A
    /// simulation does, on a network and in a time of its own.
    ///
    /// # Errors
    /// When the signing key cannot be used.
    pub fn without_port(
        config: &Config,
        kv: Arc<dyn Kv>,
        outside: Arc<dyn Outside>,
        shutdown: CancellationToken,
    ) -> Result<PortlessServer, StartError> {
        let advertised = SocketAddr::new(config.advertise, config.listen.port());
        let parts = Parts::start(config, advertised, kv, outside, &shutdown)?;
        Ok(PortlessServer { parts, shutdown })
    }
}

/// A server that others accept connections for. Its tasks end with it.
pub struct PortlessServer {
    parts: Parts,
    shutdown: CancellationToken,
}

impl PortlessServer {
    /// Returns the conversation on one connection, which lasts until one of both ends it.
    pub fn converse<T>(
        &self,
        stream: T,
        peer: Peer,
        options: ServeOptions,
    ) -> impl Future<Output = ()> + Send + use<T>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (chain, shutdown) = (self.parts.chain.clone(), self.shutdown.clone());
        async move {
            let service = tower::service_fn(move |request| chain.clone().handle(request));
            serve_connection(stream, peer, service, &options, &shutdown).await;
        }
    }
}

/// What there is of a server before it listens.
struct Parts {
    chain: Chain,
    upgrades: TaskTracker,
    tasks: JoinSet<()>,
}

impl Parts {
    fn start(
        config: &Config,
        advertised: SocketAddr,
        kv: Arc<dyn Kv>,
        outside: Arc<dyn Outside>,
        shutdown: &CancellationToken,
    ) -> Result<Self, StartError> {
        let api = Arc::new(Api {
            storage: Storage::new(kv),
            ranges: config.ranges.clone(),
            tokens: config.bundle.token_signer()?,
            nodes: NodeChannels::default(),
            idempotency: Default::default(),
            outside,
        });
        let upgrades = TaskTracker::new();
        let metrics = Arc::new(Metrics::new(Arc::clone(&config.metrics)));
        let rest = Rest {
            api: Arc::clone(&api),
            metrics: Arc::clone(&metrics),
            shutdown: shutdown.clone(),
            tasks: upgrades.clone(),
            advertised: advertised.to_string().into(),
        };
        let services = Services {
            api: Arc::clone(&api),
            bundle: Arc::clone(&config.bundle),
            metrics: Arc::clone(&metrics),
            shutdown: shutdown.clone(),
            tasks: upgrades.clone(),
        };
        let grpc = grpc::router(&services);
        let chain = Chain { rest, grpc, metrics, inflight: Arc::new(Semaphore::new(INFLIGHT_MAX)) };
        let mut tasks = JoinSet::new();
        tasks.spawn(compaction::run(Arc::clone(&api.storage.kv), shutdown.clone()));
        tasks.spawn(announce(api, advertised, shutdown.clone()));
        Ok(Self { chain, upgrades, tasks })
    }
}

fn server_tls(config: &Config) -> Result<ServerTls, StartError> {
    let mut names = config.names.clone();
    for name in [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ] {
        names.dns.push(name.to_owned());
    }
    names.addresses.push(config.advertise);
    names.addresses.push(IpAddr::from([127, 0, 0, 1]));
    names.addresses.push(config.ranges.kubernetes().into());
    names.addresses.dedup();
    let issued = config.bundle.issue_server("kube-apiserver", &names)?;
    Ok(ServerTls::new(ServerTlsSource {
        // The CA rides along for agents that know only its hash yet.
        certificate: Pem::from(issued.certificate_pem + config.bundle.ca_pem()),
        key: Pem::from(issued.key_pem),
        clients: ClientCertificates::Optional(Pem::from(config.bundle.ca_pem().to_owned())),
        policy: TlsPolicy::default(),
    })?)
}

/// Makes the initial objects, then keeps this server among the endpoints of the `kubernetes` service.
async fn announce(api: Arc<Api>, advertised: SocketAddr, shutdown: CancellationToken) {
    while let Err(status) = bootstrap::ensure(&api, advertised.port()).await {
        warn!(reason = status.message, "initial objects cannot be made yet");
        if shutdown.run_until_cancelled(tokio::time::sleep(BOOTSTRAP_RETRY)).await.is_none() {
            return;
        }
    }
    info!("initial objects are there");
    servers::run(api, advertised, shutdown).await;
}

/// What every request passes.
#[derive(Clone)]
struct Chain {
    rest: Rest,
    grpc: axum::Router,
    metrics: Arc<Metrics>,
    inflight: Arc<Semaphore>,
}

impl Chain {
    async fn handle(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let (started, verb) = (Instant::now(), request.method().as_str().to_owned());
        let _in_flight = self.metrics.request_started();
        let audit_id = audit_id(&request, self.rest.api.outside.as_ref());
        let served = AssertUnwindSafe(self.limited(request.map(Body::new))).catch_unwind().await;
        let mut response = served.unwrap_or_else(|_panic| {
            self.metrics.panicked();
            error!(audit_id, "a request handler panicked");
            rest::failure(&Status::internal("the server's handler panicked"))
        });
        self.metrics.request_ended(&verb, response.status().as_u16(), started.elapsed());
        if let Ok(id) = HeaderValue::from_str(&audit_id) {
            response.headers_mut().insert("audit-id", id);
        }
        Ok(response)
    }

    /// Short requests are limited in number and time; long-running ones by their connections.
    async fn limited(&self, request: Request<Body>) -> Response<Body> {
        if is_grpc(&request) || rest::is_long_running(&request) {
            return self.authenticated(request).await;
        }
        let Ok(_permit) = self.inflight.try_acquire() else {
            return rest::failure(&Status::too_many_requests());
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, self.authenticated(request)).await {
            Ok(response) => response,
            Err(_) => rest::failure(&Status::timeout()),
        }
    }

    async fn authenticated(&self, request: Request<Body>) -> Response<Body> {
        let peer = request.extensions().get::<Peer>();
        let authorization = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        match self.rest.api.authenticate(peer, authorization).await {
            Err(status) => rest::failure(&status),
            Ok(user) if is_grpc(&request) => {
                let mut request = request;
                request.extensions_mut().insert(Arc::new(user));
                self.grpc.clone().oneshot(request).await.unwrap_or_else(|never| match never {})
            }
            Ok(user) => self.rest.handle(Arc::new(user), request).await,
        }
    }
}

fn is_grpc(request: &Request<Body>) -> bool {
    let media_type = request.headers().get(http::header::CONTENT_TYPE);
    media_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn audit_id<B>(request: &Request<B>, outside: &dyn Outside) -> String {
    let given = request.headers().get("audit-id").and_then(|value| value.to_str().ok());
    given.filter(|id| id.len() <= 64).map_or_else(|| outside.uuid().to_string(), str::to_owned)
}
