//! The node channel: one outbound stream to every server, over which servers reach this node's pods.
//!
//! Numbered streams share a connection, each with its own credit, so a slow reader stops only itself. [`connection`] moves
//! frames, [`serve`] does what a stream asks for: [`logs`] or [`terminal`] (exec and attach).

mod connection;
mod logs;
mod runtime_stream;
mod serve;
mod terminal;

use std::sync::Arc;
use std::time::Duration;

use client::Backoff;
use proto::keelson::node_channel_client::NodeChannelClient;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

pub use serve::Served;

/// Credit that each direction of a stream begins with; the server knows the same number.
const WINDOW_BYTES: u64 = 256 * 1024;
/// Pauses between connections.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Keeps a channel to one server until the token is cancelled.
pub async fn run(server: Channel, served: Arc<Served>, shutdown: CancellationToken) {
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    let mut backoff = Backoff::new(RECONNECT.0, RECONNECT.1, seed);
    loop {
        let client = NodeChannelClient::new(server.clone());
        let connected = tokio::select! {
            () = shutdown.cancelled() => return,
            ended = connection::run(client, &served) => ended,
        };
        match connected {
            Ok(()) => {
                tracing::info!("node channel ended");
                backoff.reset();
            }
            Err(error) => tracing::debug!(%error, "node channel is not open"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(backoff.next_delay()) => {}
        }
    }
}
