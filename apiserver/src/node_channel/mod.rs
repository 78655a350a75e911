//! The agents that are connected to this server, and streams to their pods over those connections.
//!
//! An agent keeps one outbound gRPC stream to every server. Exec, attach and logs open numbered streams inside it.
//! Each direction of a stream starts with [`WINDOW_BYTES`] of credit; who receives bytes grants more as it hands them
//! on, so a slow reader stops its own stream and no other one.

mod connection;
mod stream;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use proto::keelson::{Open, open};

use crate::endpoints::status::Status;
pub(crate) use connection::Connection;
pub(crate) use stream::{FromNode, NodeStream, NodeWriter};

/// Credit that each direction of a stream begins with; both sides know this number.
pub(crate) const WINDOW_BYTES: u64 = 256 * 1024;

/// The connected agents by node name.
#[derive(Default)]
pub(crate) struct NodeChannels {
    connections: Mutex<BTreeMap<String, Arc<Connection>>>,
}

impl NodeChannels {
    /// Adds a node's connection; a newer one replaces the old, which ends.
    pub(crate) fn connect(&self, node: &str, connection: Arc<Connection>) {
        let old = self.lock().insert(node.to_owned(), connection);
        if let Some(old) = old {
            old.close();
        }
    }

    /// Forgets a connection, unless a newer one took its place.
    pub(crate) fn disconnect(&self, node: &str, connection: &Arc<Connection>) {
        let mut connections = self.lock();
        if connections.get(node).is_some_and(|present| Arc::ptr_eq(present, connection)) {
            connections.remove(node);
        }
    }

    /// Opens a stream on a node.
    ///
    /// # Errors
    /// Bad gateway when the node has no connection to this server.
    pub(crate) async fn open(&self, node: &str, request: open::Request) -> Result<NodeStream, Status> {
        let connection = self.lock().get(node).cloned();
        let connection = connection.ok_or_else(|| {
            Status::bad_gateway(format!(
                "node {node} has no channel to this server; try again or ask another server"
            ))
        })?;
        connection.open(Open { request: Some(request) }).await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Connection>>> {
        self.connections.lock().expect("no code panics while holding this lock")
    }
}
