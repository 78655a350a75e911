//! The peer port.

use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use proto::raft::peer_server::PeerServer;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::net::{Connection, Listener};
use crate::raft::network::{KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, MESSAGE_BYTES_MAX};
use crate::raft::node::Node;
use crate::raft::server::PeerService;

/// Handshakes at a time; peers are a handful.
const HANDSHAKES_MAX: usize = 64;
/// As the asking end: a megabyte of entries must not wait for window updates.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// Answers peers until `stop`.
pub(super) async fn serve(node: Arc<Node>, listener: Box<dyn Listener>, stop: CancellationToken) {
    let service = PeerServer::new(PeerService::new(node, stop.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let serving = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .add_service(service)
        .serve_with_incoming(incoming(listener));
    // Peers notice a broken connection at once; append streams never end by themselves.
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        ended = serving => {
            if let Err(error) = ended {
                tracing::error!(error = crate::env::error_chain(&error), "the peer port has failed");
            }
        }
    }
}

fn incoming(listener: Box<dyn Listener>) -> impl Stream<Item = io::Result<Connection>> {
    stream::unfold(listener, |mut listener| async move {
        let accepted = listener.accept().await;
        Some((accepted, listener))
    })
    .filter_map(|accepted| async {
        accepted.inspect_err(|error| tracing::warn!(%error, "cannot accept a peer")).ok()
    })
    .buffer_unordered(HANDSHAKES_MAX)
    .filter_map(|connection| async {
        connection.inspect_err(|error| tracing::debug!(%error, "a peer's handshake failed")).ok().map(Ok)
    })
}
