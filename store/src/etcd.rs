//! The etcd v3 API on a port: all services over one [`Edge`], with plain HTTP and JSON beside them, with TLS or
//! without.

use std::sync::Arc;
use std::time::Duration;

use axum::middleware::map_response;
use proto::etcdserverpb as pb;
use proto::store::members_server::MembersServer;
use proto::v3electionpb::election_server::ElectionServer;
use proto::v3lockpb::lock_server::LockServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::ServiceBuilder;
use transport::accept::ServeOptions;
use transport::tls::ServerTls;

use crate::contest::Contests;
use crate::gateway;
pub use crate::grpc::{AuthOptions, BcryptCost, CertificateNames, Edge, TokenKind};
use crate::grpc::{
    AuthService, ClusterService, CountCalls, ElectionService, HealthService, KvService, LearnerGate,
    LeaseService, LockService, MaintenanceService, MembersService, SERVICES, WatchService, reflection,
};
use crate::health::Health;
pub use crate::http::{Access, Allowed};
use crate::{http, reads};

/// Settings of the API.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// Limits of each port.
    pub ports: ServeOptions,
    /// Whom plain HTTP is answered.
    pub access: Access,
    /// How often a watcher that asked for it hears that nothing happened.
    pub watch_progress_interval: Duration,
}

impl Default for EtcdOptions {
    /// As etcd: ten minutes, any number of streams, and HTTP for everybody.
    fn default() -> Self {
        Self {
            ports: ServeOptions { streams_max: u32::MAX, ..ServeOptions::default() },
            access: Access::default(),
            watch_progress_interval: Duration::from_secs(600),
        }
    }
}

/// Returns all services, to be served on any port until `ending`.
fn services(edge: &Edge, options: &EtcdOptions, health: Health) -> Routes {
    let kv = pb::kv_server::KvServer::new(KvService { edge: edge.clone() })
        .max_decoding_message_size(edge.limits.message_bytes());
    let watch = WatchService { edge: edge.clone(), progress_interval: options.watch_progress_interval };
    let contests = Contests::new(Arc::clone(&edge.kv));
    let health = HealthService { health, services: SERVICES };
    let routes = Routes::new(kv)
        .add_service(pb::watch_server::WatchServer::new(watch))
        .add_service(pb::lease_server::LeaseServer::new(LeaseService { edge: edge.clone() }))
        .add_service(pb::cluster_server::ClusterServer::new(ClusterService { edge: edge.clone() }))
        .add_service(pb::maintenance_server::MaintenanceServer::new(MaintenanceService {
            edge: edge.clone(),
        }))
        .add_service(pb::auth_server::AuthServer::new(AuthService { edge: edge.clone() }))
        .add_service(LockServer::new(LockService { edge: edge.clone(), contests: contests.clone() }))
        .add_service(MembersServer::new(MembersService { edge: edge.clone() }))
        .add_service(ElectionServer::new(ElectionService { edge: edge.clone(), contests }))
        .add_service(tonic_health::pb::health_server::HealthServer::new(health));
    // One layer for the router, which boxes the calls of each.
    let front = ServiceBuilder::new()
        .layer(CountCalls { calls: Arc::clone(&edge.clients.calls) })
        .layer(LearnerGate { admin: Arc::clone(&edge.admin) });
    let gated = Routes::from(routes.into_axum_router().layer(front));
    // Describing the services is not part of etcd's API, and a learner does it too.
    reflection::add_to(gated, SERVICES).prepare()
}

/// Returns the gRPC services alone, for a caller that serves them itself until `shutdown`.
#[must_use]
pub fn grpc(edge: &Edge, options: &EtcdOptions, shutdown: CancellationToken) -> Routes {
    let health = Health::new(Arc::clone(&edge.kv), shutdown);
    services(edge, options, health)
}

/// Serves the API on `listener` until `shutdown`, then drains.
pub async fn serve(
    listener: TcpListener,
    tls: Option<ServerTls>,
    edge: Edge,
    options: EtcdOptions,
    shutdown: CancellationToken,
) {
    let health = Health::new(Arc::clone(&edge.kv), shutdown.clone());
    let plain = http::Plain { edge: edge.clone(), health: health.clone() };
    let traffic = Arc::clone(&edge.clients.traffic);
    let services = services(&edge, &options, health).into_axum_router();
    let gateway = gateway::router(&services, edge.limits.message_bytes());
    let access = http::Guard { access: Arc::new(options.access), is_secure: tls.is_some() };
    let router = http::beside(services, gateway, plain, access).layer(map_response(reads::hold));
    transport::accept::serve(listener, tls, router, ServeOptions { traffic, ..options.ports }, shutdown)
        .await;
}

/// Serves metrics and health checks alone, for a port of their own.
pub async fn serve_metrics(
    listener: TcpListener,
    tls: Option<ServerTls>,
    edge: Edge,
    shutdown: CancellationToken,
) {
    let health = Health::new(Arc::clone(&edge.kv), shutdown.clone());
    let router = http::observation(http::Plain { edge, health });
    transport::accept::serve(listener, tls, router, ServeOptions::default(), shutdown).await;
}
