//! One stream to a node: an exec, an attach or a log.

use std::sync::Arc;

use bytes::Bytes;
use proto::keelson::{Channel, Data, Finish, HalfClose, Resize, Window, frame};
use tokio::sync::{Semaphore, mpsc};

use super::WINDOW_BYTES;
use super::connection::Connection;
use crate::endpoints::status::Status;

/// Frames in flight to a reader. Credit bounds the bytes; this bounds what an agent can do with tiny frames.
const INCOMING_FRAMES: usize = 4_096;
/// Largest data frame that is sent.
const DATA_BYTES_MAX: usize = 32 * 1024;
/// Credit is granted in portions, not per frame.
const GRANT_BYTES: u64 = WINDOW_BYTES / 4;

/// What a node says on a stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FromNode {
    Data(Channel, Bytes),
    Finish(Finish),
}

/// The connection's end of a stream.
pub(super) struct StreamInput {
    frames: mpsc::Sender<frame::Body>,
    credit: Arc<Semaphore>,
}

impl StreamInput {
    /// Hands a frame to the reader; false when the agent sent more than it may.
    pub(super) fn push(&self, body: frame::Body) -> bool {
        !matches!(self.frames.try_send(body), Err(mpsc::error::TrySendError::Full(_)))
    }

    /// Adds credit for bytes to the node.
    pub(super) fn grant(&self, bytes: u64) {
        let room = Semaphore::MAX_PERMITS.saturating_sub(self.credit.available_permits());
        self.credit.add_permits(usize::try_from(bytes).unwrap_or(room).min(room));
    }
}

/// The reader's and writer's end of a stream. Dropping it cancels the stream on the node.
pub(crate) struct NodeStream {
    connection: Arc<Connection>,
    id: u64,
    frames: mpsc::Receiver<frame::Body>,
    credit: Arc<Semaphore>,
    /// Bytes handed on since the last grant.
    ungranted: u64,
}

impl NodeStream {
    pub(super) fn new(connection: Arc<Connection>, id: u64) -> (StreamInput, Self) {
        let (sender, frames) = mpsc::channel(INCOMING_FRAMES);
        let credit = Arc::new(Semaphore::new(usize::try_from(WINDOW_BYTES).expect("the window fits memory")));
        let input = StreamInput { frames: sender, credit: Arc::clone(&credit) };
        (input, Self { connection, id, frames, credit, ungranted: 0 })
    }

    /// Returns what writes to the node, independent of reading.
    pub(crate) fn writer(&self) -> NodeWriter {
        NodeWriter { connection: Arc::clone(&self.connection), id: self.id, credit: Arc::clone(&self.credit) }
    }

    /// Returns the next thing the node says. Cancel safe.
    ///
    /// # Errors
    /// Bad gateway when the node's connection is lost before the stream finished.
    pub(crate) async fn next(&mut self) -> Result<FromNode, Status> {
        loop {
            if self.ungranted >= GRANT_BYTES {
                let credit_bytes = std::mem::take(&mut self.ungranted);
                self.connection.send(self.id, frame::Body::Window(Window { credit_bytes })).await?;
            }
            match self.frames.recv().await {
                None => return Err(self.connection.lost()),
                Some(frame::Body::Data(data)) => {
                    self.ungranted += u64::try_from(data.payload.len()).unwrap_or(u64::MAX);
                    return Ok(FromNode::Data(data.channel(), data.payload));
                }
                Some(frame::Body::Finish(finish)) => return Ok(FromNode::Finish(finish)),
                Some(_) => {}
            }
        }
    }
}

impl Drop for NodeStream {
    fn drop(&mut self) {
        self.connection.cancel(self.id);
    }
}

/// Writes to a node's stream.
#[derive(Clone)]
pub(crate) struct NodeWriter {
    connection: Arc<Connection>,
    id: u64,
    credit: Arc<Semaphore>,
}

impl NodeWriter {
    /// Sends bytes to the process, as fast as the node takes them.
    pub(crate) async fn stdin(&self, mut bytes: Bytes) -> Result<(), Status> {
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(DATA_BYTES_MAX));
            let wanted = u32::try_from(part.len()).expect("a part is at most 32 KiB");
            let permit = self.credit.acquire_many(wanted).await.expect("the semaphore is never closed");
            permit.forget();
            let data = Data { channel: Channel::Stdin.into(), payload: part };
            self.connection.send(self.id, frame::Body::Data(data)).await?;
        }
        Ok(())
    }

    /// Says that no more input comes.
    pub(crate) async fn close_stdin(&self) -> Result<(), Status> {
        let half_close = HalfClose { channel: Channel::Stdin.into() };
        self.connection.send(self.id, frame::Body::HalfClose(half_close)).await
    }

    pub(crate) async fn resize(&self, width: u16, height: u16) -> Result<(), Status> {
        let resize = Resize { width: u32::from(width), height: u32::from(height) };
        self.connection.send(self.id, frame::Body::Resize(resize)).await
    }
}
