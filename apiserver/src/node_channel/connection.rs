//! One agent's connection: frames out, frames in, and the streams that they belong to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use proto::keelson::{Finish, Frame, Open, Ping, frame};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::stream::{NodeStream, StreamInput};
use crate::endpoints::status::Status;

/// Frames that wait for the network; a full queue slows whoever sends.
const OUTGOING_FRAMES: usize = 256;
/// Streams that one agent serves at a time for this server.
const STREAMS_MAX: usize = 512;

/// A connected agent.
pub(crate) struct Connection {
    node: String,
    outgoing: mpsc::Sender<Frame>,
    streams: Mutex<BTreeMap<u64, StreamInput>>,
    next_id: AtomicU64,
    closed: CancellationToken,
}

impl Connection {
    /// Makes a connection; frames for the agent come out of the returned receiver.
    pub(crate) fn new(node: String) -> (Arc<Self>, mpsc::Receiver<Frame>) {
        let (outgoing, frames) = mpsc::channel(OUTGOING_FRAMES);
        let connection = Self {
            node,
            outgoing,
            streams: Mutex::default(),
            next_id: AtomicU64::new(1),
            closed: CancellationToken::new(),
        };
        (Arc::new(connection), frames)
    }

    pub(super) async fn open(self: Arc<Self>, open: Open) -> Result<NodeStream, Status> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (input, stream) = NodeStream::new(Arc::clone(&self), id);
        {
            let mut streams = self.lock();
            if streams.len() >= STREAMS_MAX {
                return Err(Status::too_many_requests());
            }
            streams.insert(id, input);
        }
        self.send(id, frame::Body::Open(open)).await?;
        Ok(stream)
    }

    /// Sends one frame; waits while the connection is busy.
    pub(super) async fn send(&self, stream_id: u64, body: frame::Body) -> Result<(), Status> {
        let frame = Frame { stream_id, body: Some(body) };
        let sent = tokio::select! {
            sent = self.outgoing.send(frame) => sent.is_ok(),
            () = self.closed.cancelled() => false,
        };
        if sent { Ok(()) } else { Err(self.lost()) }
    }

    /// Ends a stream from our side; the agent stops what it does for it.
    pub(super) fn cancel(&self, stream_id: u64) {
        if self.lock().remove(&stream_id).is_some() {
            let finish = Finish { http_code: 499, message: "client is gone".to_owned(), exit_code: None };
            // A full queue only delays the end: the agent learns it at its next write to an unknown stream.
            let _full_or_closed =
                self.outgoing.try_send(Frame { stream_id, body: Some(frame::Body::Finish(finish)) });
        }
    }

    /// Hands a frame from the agent to its stream.
    pub(crate) fn deliver(&self, frame: Frame) {
        let id = frame.stream_id;
        match frame.body {
            Some(frame::Body::Ping(Ping { reply: false })) => {
                let pong = Frame { stream_id: 0, body: Some(frame::Body::Ping(Ping { reply: true })) };
                let _full_or_closed = self.outgoing.try_send(pong);
            }
            Some(frame::Body::Window(window)) => {
                if let Some(stream) = self.lock().get(&id) {
                    stream.grant(window.credit_bytes);
                }
            }
            Some(body @ (frame::Body::Data(_) | frame::Body::HalfClose(_))) => {
                let overrun = self.lock().get(&id).is_some_and(|stream| !stream.push(body));
                if overrun {
                    self.cancel(id);
                }
            }
            Some(body @ frame::Body::Finish(_)) => {
                if let Some(stream) = self.lock().remove(&id) {
                    stream.push(body);
                }
            }
            Some(
                frame::Body::Hello(_) | frame::Body::Open(_) | frame::Body::Resize(_) | frame::Body::Ping(_),
            )
            | None => {}
        }
    }

    /// Ends the connection and all its streams.
    pub(crate) fn close(&self) {
        self.closed.cancel();
        self.lock().clear();
    }

    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    pub(super) fn lost(&self) -> Status {
        Status::bad_gateway(format!("the channel to node {} was lost", self.node))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, StreamInput>> {
        self.streams.lock().expect("no code panics while holding this lock")
    }
}
