//! The etcd v3 API on a port: all services over one [`Edge`], with TLS or without.

use std::sync::Arc;
use std::time::Duration;

use proto::etcdserverpb as pb;
use proto::v3electionpb::election_server::ElectionServer;
use proto::v3lockpb::lock_server::LockServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use transport::tls::ServerTls;

use crate::contest::Contests;
pub use crate::grpc::Edge;
use crate::grpc::{
    ClusterService, ElectionService, KvService, LearnerGate, LeaseService, LockService, MESSAGE_BYTES_MAX,
    MaintenanceService, WatchService,
};

/// Settings of the API.
#[derive(Clone, Copy, Debug)]
pub struct EtcdOptions {
    /// How often a watcher that asked for it hears that nothing happened.
    pub watch_progress_interval: Duration,
}

impl Default for EtcdOptions {
    /// Ten minutes, as etcd.
    fn default() -> Self {
        Self { watch_progress_interval: Duration::from_secs(600) }
    }
}

/// Returns all services, to be served on any port; includes gRPC health, which reports serving.
#[must_use]
pub fn routes(edge: &Edge, options: EtcdOptions) -> Routes {
    let kv = pb::kv_server::KvServer::new(KvService { edge: edge.clone() })
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let watch = WatchService { edge: edge.clone(), progress_interval: options.watch_progress_interval };
    let contests = Contests::new(Arc::clone(&edge.kv));
    let (_reporter, health) = tonic_health::server::health_reporter();
    let routes = Routes::new(kv)
        .add_service(pb::watch_server::WatchServer::new(watch))
        .add_service(pb::lease_server::LeaseServer::new(LeaseService { edge: edge.clone() }))
        .add_service(pb::cluster_server::ClusterServer::new(ClusterService { edge: edge.clone() }))
        .add_service(pb::maintenance_server::MaintenanceServer::new(MaintenanceService {
            edge: edge.clone(),
        }))
        .add_service(LockServer::new(LockService { edge: edge.clone(), contests: contests.clone() }))
        .add_service(ElectionServer::new(ElectionService { edge: edge.clone(), contests }))
        .add_service(health);
    let gate = LearnerGate { admin: Arc::clone(&edge.admin) };
    Routes::from(routes.into_axum_router().layer(gate)).prepare()
}

/// Serves the API on `listener` until `shutdown`, then drains.
pub async fn serve(
    listener: TcpListener,
    tls: Option<ServerTls>,
    edge: Edge,
    options: EtcdOptions,
    shutdown: CancellationToken,
) {
    transport::accept::serve(
        listener,
        tls,
        routes(&edge, options),
        transport::accept::ServeOptions::default(),
        shutdown,
    )
    .await;
}
