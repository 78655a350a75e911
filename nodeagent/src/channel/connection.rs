//! One connection: frames in, frames out, and the streams between them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proto::keelson::node_channel_client::NodeChannelClient;
use proto::keelson::{Channel as Pipe, Data, Finish, Frame, Hello, Open, Ping, Window, frame};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;

use super::WINDOW_BYTES;
use super::serve::{Served, serve};

/// Frames that wait for the network.
const OUTGOING_FRAMES: usize = 256;
/// Input frames that wait for a stream's process; credit bounds the bytes.
const INPUT_FRAMES: usize = 1024;
/// Largest data frame that is sent.
const DATA_BYTES_MAX: usize = 32 * 1024;
/// Streams that are served at a time on one connection.
const STREAMS_MAX: usize = 512;
/// Credit is granted in portions, not per frame.
const GRANT_BYTES: u64 = WINDOW_BYTES / 4;

/// What a server says on a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    /// Bytes for the process.
    Stdin(Bytes),
    /// No more bytes come.
    StdinEnd,
    /// The terminal's size changed.
    Resize {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
}

struct Stream {
    input: mpsc::Sender<Input>,
    credit: Arc<Semaphore>,
    _task: AbortOnDropHandle<()>,
}

/// The serving end of a stream.
pub(super) struct StreamIo {
    id: u64,
    outgoing: mpsc::Sender<Frame>,
    credit: Arc<Semaphore>,
    input: mpsc::Receiver<Input>,
    ungranted: u64,
}

impl StreamIo {
    /// Sends bytes as fast as the server takes them; false when the connection is gone.
    pub(super) async fn send(&self, pipe: Pipe, bytes: Bytes) -> bool {
        Sender { id: self.id, outgoing: self.outgoing.clone(), credit: Arc::clone(&self.credit) }
            .send(pipe, bytes)
            .await
    }

    /// Splits off a sender, for serving both directions at once.
    pub(super) fn sender(&self) -> Sender {
        Sender { id: self.id, outgoing: self.outgoing.clone(), credit: Arc::clone(&self.credit) }
    }

    /// Returns the next input; `None` when the connection is gone. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Input> {
        let input = self.input.recv().await?;
        if let Input::Stdin(bytes) = &input {
            self.ungranted += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if self.ungranted >= GRANT_BYTES {
                let window = Window { credit_bytes: std::mem::take(&mut self.ungranted) };
                let frame = Frame { stream_id: self.id, body: Some(frame::Body::Window(window)) };
                // Without room now, the credit rides with the next grant.
                if self.outgoing.try_send(frame).is_err() {
                    self.ungranted = window.credit_bytes;
                }
            }
        }
        Some(input)
    }

    async fn finish(outgoing: &mpsc::Sender<Frame>, id: u64, finish: Finish) {
        let frame = Frame { stream_id: id, body: Some(frame::Body::Finish(finish)) };
        // A closed connection has ended the stream already.
        let _closed = outgoing.send(frame).await;
    }
}

/// The sending half of a stream.
#[derive(Clone)]
pub(super) struct Sender {
    id: u64,
    outgoing: mpsc::Sender<Frame>,
    credit: Arc<Semaphore>,
}

impl Sender {
    /// Sends bytes as fast as the server takes them; false when the connection is gone.
    pub(super) async fn send(&self, pipe: Pipe, mut bytes: Bytes) -> bool {
        loop {
            let part = bytes.split_to(bytes.len().min(DATA_BYTES_MAX));
            let wanted = u32::try_from(part.len()).unwrap_or(u32::MAX);
            let Ok(permit) = self.credit.acquire_many(wanted).await else { return false };
            permit.forget();
            let data = Data { channel: pipe.into(), payload: part };
            let frame = Frame { stream_id: self.id, body: Some(frame::Body::Data(data)) };
            if self.outgoing.send(frame).await.is_err() {
                return false;
            }
            if bytes.is_empty() {
                return true;
            }
        }
    }
}

/// Connects and serves until the connection ends.
pub(super) async fn run(
    mut client: NodeChannelClient<Channel>,
    served: &Arc<Served>,
) -> Result<(), tonic::Status> {
    let (outgoing, frames) = mpsc::channel(OUTGOING_FRAMES);
    let hello =
        Hello { node_name: served.node_name.clone(), agent_version: env!("CARGO_PKG_VERSION").to_owned() };
    // The queue is empty, so there is room.
    let _has_room = outgoing.try_send(Frame { stream_id: 0, body: Some(frame::Body::Hello(hello)) });
    let mut incoming = client.open(ReceiverStream::new(frames)).await?.into_inner();
    tracing::info!("node channel is open");
    let mut streams: BTreeMap<u64, Stream> = BTreeMap::new();
    while let Some(frame) = incoming.message().await? {
        take(frame, &mut streams, &outgoing, served);
    }
    Ok(())
}

fn take(
    frame: Frame,
    streams: &mut BTreeMap<u64, Stream>,
    outgoing: &mpsc::Sender<Frame>,
    served: &Arc<Served>,
) {
    let id = frame.stream_id;
    match frame.body {
        Some(frame::Body::Open(open)) => open_stream(id, open, streams, outgoing, served),
        Some(frame::Body::Data(data)) => input(streams, id, Input::Stdin(data.payload)),
        Some(frame::Body::HalfClose(_)) => input(streams, id, Input::StdinEnd),
        Some(frame::Body::Resize(size)) => {
            input(streams, id, Input::Resize { width: size.width, height: size.height })
        }
        Some(frame::Body::Window(window)) => {
            if let Some(stream) = streams.get(&id) {
                let room = Semaphore::MAX_PERMITS.saturating_sub(stream.credit.available_permits());
                stream.credit.add_permits(usize::try_from(window.credit_bytes).unwrap_or(room).min(room));
            }
        }
        // The server is done with it; dropping the stream ends its task.
        Some(frame::Body::Finish(_)) => drop(streams.remove(&id)),
        Some(frame::Body::Ping(Ping { reply: false })) => {
            let pong = Frame { stream_id: 0, body: Some(frame::Body::Ping(Ping { reply: true })) };
            // A full queue shows life just as well.
            let _full_or_closed = outgoing.try_send(pong);
        }
        Some(frame::Body::Hello(_) | frame::Body::Ping(_)) | None => {}
    }
}

fn input(streams: &mut BTreeMap<u64, Stream>, id: u64, input: Input) {
    // More than the credit allows, or input for a stream that ended: the stream goes, the connection stays.
    if streams.get(&id).is_some_and(|stream| stream.input.try_send(input).is_err()) {
        streams.remove(&id);
    }
}

fn open_stream(
    id: u64,
    open: Open,
    streams: &mut BTreeMap<u64, Stream>,
    outgoing: &mpsc::Sender<Frame>,
    served: &Arc<Served>,
) {
    streams.retain(|_, stream| !stream._task.is_finished());
    let (input, input_receiver) = mpsc::channel(INPUT_FRAMES);
    let credit = Arc::new(Semaphore::new(usize::try_from(WINDOW_BYTES).unwrap_or(usize::MAX >> 3)));
    let io = StreamIo {
        id,
        outgoing: outgoing.clone(),
        credit: Arc::clone(&credit),
        input: input_receiver,
        ungranted: 0,
    };
    let is_full = streams.len() >= STREAMS_MAX;
    let (served, outgoing) = (Arc::clone(served), outgoing.clone());
    let task = tokio::spawn(async move {
        let finish = if is_full {
            Finish { http_code: 429, message: "too many streams on this node".to_owned(), exit_code: None }
        } else {
            serve(open, io, &served).await
        };
        StreamIo::finish(&outgoing, id, finish).await;
    });
    streams.insert(id, Stream { input, credit, _task: AbortOnDropHandle::new(task) });
}
