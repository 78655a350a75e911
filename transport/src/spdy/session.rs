//! A session: many streams over one connection. The same code is client and server; they differ in whose stream ids
//! are odd.
//!
//! The future returned beside the handle moves the bytes; the caller owns it (spawns it in its own task set), and the
//! session ends with it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::SpdyError;
use super::frame::{Frame, encode, take};
use super::headers::{HeaderDecoder, HeaderEncoder, Headers};

/// Frames waiting to be written; a full queue slows the writers.
const OUTGOING_FRAMES: usize = 64;
/// Data frames waiting for a stream's reader; then the connection is not read any further.
const STREAM_FRAMES: usize = 64;
/// Streams opened by the peer that nobody has taken yet.
const INCOMING_STREAMS: usize = 64;
/// Streams of one session; an exec has five, a port-forward two per connection.
const STREAMS_MAX: usize = 1_024;
const DATA_BYTES_MAX: usize = 32 * 1024;
const READ_BYTES: usize = 16 * 1024;
/// RST_STREAM: the stream is refused.
const STATUS_REFUSED: u32 = 3;
/// RST_STREAM: the reader is gone.
const STATUS_CANCEL: u32 = 5;

/// A handle to open streams.
#[derive(Clone)]
pub struct Session(Arc<Shared>);

/// Streams that the peer opens; ends with the session.
pub struct Incoming(mpsc::Receiver<Stream>);

struct Shared {
    outgoing: mpsc::Sender<Frame>,
    streams: Mutex<BTreeMap<u32, Entry>>,
    next_id: AtomicU32,
}

/// What the reading side knows of a stream.
struct Entry {
    data: Option<mpsc::Sender<Result<Bytes, SpdyError>>>,
    reply: Option<oneshot::Sender<Headers>>,
}

/// One stream.
pub struct Stream {
    headers: Headers,
    reader: StreamReader,
    writer: StreamWriter,
}

/// Reads a stream. Dropping it discards what still comes.
pub struct StreamReader(mpsc::Receiver<Result<Bytes, SpdyError>>);

/// Writes a stream.
#[derive(Clone)]
pub struct StreamWriter {
    id: u32,
    shared: Arc<Shared>,
}

impl Session {
    /// Runs the client's side over `io`. The future must be polled for anything to happen.
    pub fn client<T>(io: T) -> (Self, Incoming, impl Future<Output = Result<(), SpdyError>> + Send)
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        Self::start(io, 1)
    }

    /// Runs the server's side over `io`. The future must be polled for anything to happen.
    pub fn server<T>(io: T) -> (Self, Incoming, impl Future<Output = Result<(), SpdyError>> + Send)
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        Self::start(io, 2)
    }

    fn start<T>(io: T, first_id: u32) -> (Self, Incoming, impl Future<Output = Result<(), SpdyError>> + Send)
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (outgoing, frames) = mpsc::channel(OUTGOING_FRAMES);
        let (arrivals, incoming) = mpsc::channel(INCOMING_STREAMS);
        let shared =
            Arc::new(Shared { outgoing, streams: Mutex::default(), next_id: AtomicU32::new(first_id) });
        let (reader, writer) = tokio::io::split(io);
        let receiving = Receiver { shared: Arc::downgrade(&shared), arrivals, own_parity: first_id % 2 };
        let run = async move {
            let receive = receiving.run(reader);
            let send = send(writer, frames);
            // Whichever side ends takes the other one with it; frames already queued are written first.
            tokio::select! {
                ended = receive => ended,
                ended = send => ended,
            }
        };
        (Self(shared), Incoming(incoming), run)
    }

    /// Opens a stream and waits for the peer's reply: peers drop data that comes before it.
    ///
    /// # Errors
    /// When the session ends, or the peer refuses the stream. Give it a deadline.
    pub async fn open(&self, headers: Headers) -> Result<Stream, SpdyError> {
        let id = self.0.next_id.fetch_add(2, Ordering::Relaxed);
        let (reply, replied) = oneshot::channel();
        let stream =
            self.0.add(id, headers.clone(), Some(reply)).ok_or(SpdyError::Protocol("too many streams"))?;
        self.0.send(Frame::SynStream { id, headers, fin: false }).await?;
        replied.await.map_err(|_| SpdyError::Closed)?;
        Ok(stream)
    }

    /// Waits until the session has ended.
    pub async fn closed(&self) {
        self.0.outgoing.closed().await;
    }

    /// Asks the peer to stop: no new streams from it are expected.
    ///
    /// # Errors
    /// When the session has ended already.
    pub async fn go_away(&self) -> Result<(), SpdyError> {
        self.0.send(Frame::GoAway { last_id: 0, status: 0 }).await
    }
}

impl Incoming {
    /// Returns the next stream that the peer opened; `None` when the session ended. Cancel safe.
    pub async fn next(&mut self) -> Option<Stream> {
        self.0.recv().await
    }
}

impl Stream {
    /// Returns the headers that the stream was opened with; names are lower case when the peer opened it.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Splits the stream into its directions.
    #[must_use]
    pub fn split(self) -> (StreamReader, StreamWriter) {
        (self.reader, self.writer)
    }
}

impl StreamReader {
    /// Returns the next bytes; `None` when the peer has finished. Cancel safe.
    ///
    /// # Errors
    /// [`SpdyError::Reset`] when the peer gave the stream up.
    pub async fn read(&mut self) -> Result<Option<Bytes>, SpdyError> {
        self.0.recv().await.transpose()
    }
}

impl StreamWriter {
    /// Sends bytes; waits while the connection is busy.
    ///
    /// # Errors
    /// When the session has ended.
    pub async fn write(&self, mut bytes: Bytes) -> Result<(), SpdyError> {
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(DATA_BYTES_MAX));
            self.shared.send(Frame::Data { id: self.id, bytes: part, fin: false }).await?;
        }
        Ok(())
    }

    /// Says that nothing more comes: the reader at the other end sees the end of the stream.
    ///
    /// # Errors
    /// When the session has ended.
    pub async fn finish(&self) -> Result<(), SpdyError> {
        self.shared.send(Frame::Data { id: self.id, bytes: Bytes::new(), fin: true }).await
    }

    /// Gives the stream up in both directions.
    ///
    /// # Errors
    /// When the session has ended.
    pub async fn reset(&self) -> Result<(), SpdyError> {
        self.shared.lock().remove(&self.id);
        self.shared.send(Frame::Reset { id: self.id, status: STATUS_CANCEL }).await
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, Entry>> {
        self.streams.lock().expect("no code panics while holding this lock")
    }

    async fn send(&self, frame: Frame) -> Result<(), SpdyError> {
        self.outgoing.send(frame).await.map_err(|_| SpdyError::Closed)
    }

    fn add(
        self: &Arc<Self>,
        id: u32,
        headers: Headers,
        reply: Option<oneshot::Sender<Headers>>,
    ) -> Option<Stream> {
        let (sender, receiver) = mpsc::channel(STREAM_FRAMES);
        let mut streams = self.lock();
        if streams.len() >= STREAMS_MAX {
            return None;
        }
        streams.insert(id, Entry { data: Some(sender), reply });
        let writer = StreamWriter { id, shared: Arc::clone(self) };
        Some(Stream { headers, reader: StreamReader(receiver), writer })
    }
}

/// The reading side of the connection.
struct Receiver {
    /// Weak, so that the session ends when nobody holds it or a stream any more.
    shared: std::sync::Weak<Shared>,
    arrivals: mpsc::Sender<Stream>,
    own_parity: u32,
}

impl Receiver {
    async fn run(self, mut reader: impl AsyncRead + Unpin) -> Result<(), SpdyError> {
        let ended = self.receive(&mut reader).await;
        if let Some(shared) = self.shared.upgrade() {
            shared.lock().clear();
        }
        ended
    }

    async fn receive(&self, reader: &mut (impl AsyncRead + Unpin)) -> Result<(), SpdyError> {
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        let mut decoder = HeaderDecoder::default();
        loop {
            while let Some(frame) = take(&mut buffer, &mut decoder)? {
                self.handle(frame).await?;
            }
            if reader.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    }

    async fn handle(&self, frame: Frame) -> Result<(), SpdyError> {
        let Some(shared) = self.shared.upgrade() else { return Err(SpdyError::Closed) };
        match frame {
            Frame::SynStream { id, headers, fin } => self.arrived(&shared, id, headers, fin).await,
            Frame::SynReply { id, headers, fin } => {
                let reply = shared.lock().get_mut(&id).and_then(|entry| entry.reply.take());
                if let Some(reply) = reply {
                    // The opener may have given up meanwhile.
                    let _opener_is_gone = reply.send(headers);
                }
                finished(&shared, id, fin);
                Ok(())
            }
            Frame::Data { id, bytes, fin } => {
                let data = shared.lock().get(&id).and_then(|entry| entry.data.clone());
                if let Some(data) = data.filter(|_| !bytes.is_empty()) {
                    // A reader that was dropped discards what still comes.
                    let _reader_is_gone = data.send(Ok(bytes)).await;
                }
                finished(&shared, id, fin);
                Ok(())
            }
            Frame::Reset { id, status } => {
                let data = shared.lock().remove(&id).and_then(|entry| entry.data);
                if let Some(data) = data {
                    let _reader_is_gone_or_behind = data.try_send(Err(SpdyError::Reset(status)));
                }
                Ok(())
            }
            Frame::Ping(id) if id % 2 != self.own_parity => shared.send(Frame::Ping(id)).await,
            Frame::Headers { id, fin, .. } => {
                finished(&shared, id, fin);
                Ok(())
            }
            Frame::Ping(_) | Frame::Settings(_) | Frame::GoAway { .. } | Frame::WindowUpdate { .. } => Ok(()),
        }
    }

    async fn arrived(
        &self,
        shared: &Arc<Shared>,
        id: u32,
        headers: Headers,
        fin: bool,
    ) -> Result<(), SpdyError> {
        if id % 2 == self.own_parity || id == 0 {
            return Err(SpdyError::Protocol("stream id of the wrong side"));
        }
        let Some(stream) = shared.add(id, headers, None) else {
            return shared.send(Frame::Reset { id, status: STATUS_REFUSED }).await;
        };
        finished(shared, id, fin);
        shared.send(Frame::SynReply { id, headers: Headers::new(), fin: false }).await?;
        if self.arrivals.send(stream).await.is_err() {
            shared.lock().remove(&id);
            return shared.send(Frame::Reset { id, status: STATUS_REFUSED }).await;
        }
        Ok(())
    }
}

/// Ends the reading direction of a stream when its sender has finished.
fn finished(shared: &Shared, id: u32, fin: bool) {
    if fin && let Some(entry) = shared.lock().get_mut(&id) {
        entry.data = None;
    }
}

async fn send(
    mut writer: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Frame>,
) -> Result<(), SpdyError> {
    let mut encoder = HeaderEncoder::default();
    let mut buffer = BytesMut::new();
    while let Some(frame) = frames.recv().await {
        encode(&frame, &mut encoder, &mut buffer)?;
        writer.write_all_buf(&mut buffer).await?;
        writer.flush().await?;
    }
    writer.shutdown().await?;
    Ok(())
}
