//! The accept loop: one port for HTTP/1.1 (with upgrades), HTTP/2 and gRPC, with or without TLS.
//!
//! Each connection is a task owned by the loop. On shutdown the loop stops accepting, asks every connection to finish
//! (GOAWAY on HTTP/2), waits for [`ServeOptions::drain`], and drops what is left. Long-running responses must end on
//! the caller's own token, or they use up the drain time. An upgraded connection leaves the loop's care; who upgrades
//! it owns it.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};
use tracing::{debug, warn};

use crate::peer::Peer;
use crate::tls::ServerTls;
use crate::traffic::{Counted, Traffic};

/// A client that does not finish its handshake in this time only holds a slot.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time to send all request headers (HTTP/1.1), against slow-drip clients.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed `accept` (out of file descriptors), so that the loop does not spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Limits of one listening port.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Open connections; further ones wait in the listen queue.
    pub connections_max: usize,
    /// How long open connections may finish after shutdown.
    pub drain: Duration,
    /// How long a connection over HTTP/2 may be silent before it is asked for a sign of life, and how long that may take: finds
    /// clients that vanished without closing.
    pub keep_alive_interval: Duration,
    pub keep_alive_timeout: Duration,
    /// Streams of one connection at a time.
    pub streams_max: u32,
    /// Whether answers say what time it is, as RFC 9110 asks of servers that have a clock (section 6.6.1).
    pub dates: Dates,
    /// Counts connections and their bytes.
    pub traffic: Arc<Traffic>,
}

/// Whether answers carry a date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dates {
    #[default]
    Sent,
    /// For a server in simulated time: the date would be the machine's.
    LeftOut,
}

impl Default for ServeOptions {
    /// 10 000 connections (two per node at 5 000 nodes), 10 s of drain, a ping after 30 s with 20 s for its answer, and 1 000 streams:
    /// upstream allows 250, our reflectors need a few dozen.
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            drain: Duration::from_secs(10),
            keep_alive_interval: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(20),
            streams_max: 1_000,
            dates: Dates::Sent,
            traffic: Arc::default(),
        }
    }
}

/// Serves `service` on `listener` until `shutdown`, then drains; `None` for `tls` serves plain text.
pub async fn serve<S, B>(
    listener: TcpListener,
    tls: Option<ServerTls>,
    service: S,
    options: ServeOptions,
    shutdown: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let slots = Arc::new(Semaphore::new(options.connections_max));
    let mut connections = JoinSet::new();
    while let Some((stream, slot)) = next_connection(&listener, &slots, &shutdown).await {
        while connections.try_join_next().is_some() {}
        let connection = Connection {
            slot,
            shutdown: shutdown.clone(),
            service: service.clone(),
            options: options.clone(),
        };
        connections.spawn(connection.run(stream, tls.clone()));
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(options.drain, drained).await.is_err() {
        warn!("connections still open after the drain time are dropped");
        connections.shutdown().await;
    }
}

async fn next_connection(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    tokio::select! {
        () = shutdown.cancelled() => None,
        accepted = accept(listener, slots) => Some(accepted),
    }
}

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let slot = Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, slot),
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

struct Connection<S> {
    slot: OwnedSemaphorePermit,
    shutdown: CancellationToken,
    service: S,
    options: ServeOptions,
}

impl<S, B> Connection<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    async fn run(self, stream: TcpStream, tls: Option<ServerTls>) {
        let (Ok(remote_addr), Ok(local_addr)) = (stream.peer_addr(), stream.local_addr()) else {
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%remote_addr, %error, "cannot switch off Nagle's algorithm");
        }
        let mut peer = Peer { remote_addr, local_addr, certificates: Arc::from([]) };
        let Some(tls) = tls else {
            return self.http(stream, peer).await;
        };
        let handshake = TlsAcceptor::from(tls.config()).accept(stream);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => {
                let (_, session) = stream.get_ref();
                peer.certificates = session.peer_certificates().map(<[_]>::to_vec).unwrap_or_default().into();
                if !tls.admits(&peer.certificates) {
                    return debug!(%remote_addr, "the certificate names nobody who is let in");
                }
                self.http(stream, peer).await;
            }
            Ok(Err(error)) => debug!(%remote_addr, %error, "TLS handshake failed"),
            Err(_) => debug!(%remote_addr, "TLS handshake timed out"),
        }
    }

    async fn http<T>(self, stream: T, peer: Peer)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { slot, shutdown, service, options } = self;
        serve_connection(stream, peer, service, &options, &shutdown).await;
        drop(slot);
    }
}

/// Serves one connection whose other end is known, to its end; once `shutdown` fires it is asked to finish its open requests.
pub async fn serve_connection<T, S, B>(
    stream: T,
    peer: Peer,
    service: S,
    options: &ServeOptions,
    shutdown: &CancellationToken,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let remote_addr = peer.remote_addr;
    let stream = Counted::new(stream, Arc::clone(&options.traffic));
    let handler = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        service.clone().oneshot(request)
    });
    let has_dates = options.dates == Dates::Sent;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).auto_date_header(has_dates);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(options.keep_alive_interval)
        .keep_alive_timeout(options.keep_alive_timeout)
        .max_concurrent_streams(options.streams_max)
        .auto_date_header(has_dates);
    let connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), handler));
    if let Err(error) = run_until_drained(connection, shutdown).await {
        debug!(%remote_addr, error, "connection ended");
    }
}

/// Polls a connection to its end; once `shutdown` fires it is asked to finish its open requests.
async fn run_until_drained<C>(
    mut connection: Pin<&mut C>,
    shutdown: &CancellationToken,
) -> Result<(), C::Error>
where
    C: GracefulConnection,
{
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
