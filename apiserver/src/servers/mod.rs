//! Which servers are alive, and the endpoints of the `kubernetes` service that say so to pods.
//!
//! ```text
//!   each server ──▶ registration (a key on a store lease) ──▶ follow ──▶ shape ──▶ Endpoints, EndpointSlices
//! ```
//!
//! Every server follows the registrations and writes the same objects, so it does not matter who is left. A server that
//! stops takes its registration back; one that dies loses it with its lease. The last one stays listed: nobody is left
//! who could answer, and it is the first to look for when it starts again.
//!
//! Not here: a server on a loopback address. No pod could reach it, and endpoints may not hold such an address.

mod follow;
mod registration;
mod shape;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::endpoints::Api;

/// Keeps this server registered and the objects true until shutdown.
pub(crate) async fn run(api: Arc<Api>, advertised: SocketAddr, shutdown: CancellationToken) {
    if advertised.ip().is_loopback() {
        info!(%advertised, "a loopback address is not published in the kubernetes service");
        return;
    }
    let kept = registration::keep(Arc::clone(&api.storage.kv), advertised, shutdown.clone());
    tokio::join!(kept, follow::run(&api, advertised.port(), shutdown));
}
