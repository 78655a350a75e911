//! The gRPC projection of the same verbs, behind the same authentication and authorization.
//!
//! One file per service. Every failed call carries its `metav1.Status` in the trailer `keelson-status-bin`.

mod about;
mod api;
mod bootstrap;
mod leadership;
mod node_channel;
mod status;

use std::sync::Arc;

use proto::keelson::api_server::ApiServer;
use proto::keelson::bootstrap_server::BootstrapServer;
use proto::keelson::leadership_server::LeadershipServer;
use proto::keelson::node_channel_server::NodeChannelServer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use crate::authn::User;
use crate::endpoints::Api;
use crate::endpoints::status::Status;
use crate::metrics::Metrics;
use crate::pki::Bundle;

/// Largest message in either direction: an object, a page of a list.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the services share.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) api: Arc<Api>,
    pub(crate) bundle: Arc<Bundle>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) shutdown: CancellationToken,
    /// Owns the tasks of node channels.
    pub(crate) tasks: TaskTracker,
}

/// Returns the services as one router.
pub(crate) fn router(services: &Services) -> axum::Router {
    let own = || services.clone();
    let api = ApiServer::new(own())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    Routes::new(api)
        .add_service(LeadershipServer::new(own()))
        .add_service(BootstrapServer::new(own()))
        .add_service(NodeChannelServer::new(own()))
        .prepare()
        .into_axum_router()
}

/// Returns who calls; the request chain put it there.
fn user_of<T>(request: &tonic::Request<T>) -> Result<Arc<User>, tonic::Status> {
    let user = request.extensions().get::<Arc<User>>().cloned();
    user.ok_or_else(|| status::to_grpc(&Status::unauthorized()))
}
