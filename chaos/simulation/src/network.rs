//! The simulated network behind the store's `Net`, under its gRPC services, and under clients.
//!
//! What a process writes after its end goes nowhere: on a real machine it is gone at that moment, here only when the simulator takes it
//! away.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::{Stream, stream};
use store::net::{Connection, Listener, Net};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

use crate::machine::Machine;

/// Sockets of one machine.
pub(crate) struct SimNet {
    pub(crate) machine: Arc<Machine>,
}

struct Accepting {
    listener: TcpListener,
    machine: Arc<Machine>,
}

impl Listener for Accepting {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<BoxFuture<'static, io::Result<Connection>>>> {
        Box::pin(async {
            let (stream, _) = self.listener.accept().await?;
            let stream = OfProcess { stream, machine: Arc::clone(&self.machine) };
            let ready: BoxFuture<'static, _> = Box::pin(async { Ok(Connection::new(stream)) });
            Ok(ready)
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Net for SimNet {
    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (address, machine) = (address.to_owned(), Arc::clone(&self.machine));
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            let listener: Box<dyn Listener> = Box::new(Accepting { listener, machine });
            Ok(listener)
        })
    }

    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Connection>> {
        let (address, machine) = (address.to_owned(), Arc::clone(&self.machine));
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            Ok(Connection::new(OfProcess { stream, machine }))
        })
    }
}

/// Listens for clients.
pub(crate) async fn incoming(
    machine: Arc<Machine>,
    address: &str,
) -> io::Result<impl Stream<Item = io::Result<Connection>> + use<>> {
    let listener = TcpListener::bind(address).await?;
    Ok(stream::unfold((listener, machine), |(listener, machine)| async move {
        let accepted = listener
            .accept()
            .await
            .map(|(stream, _)| Connection::new(OfProcess { stream, machine: Arc::clone(&machine) }));
        Some((accepted, (listener, machine)))
    }))
}

/// A connection of a process.
pub(crate) struct OfProcess {
    stream: TcpStream,
    machine: Arc<Machine>,
}

impl OfProcess {
    pub(crate) fn new(stream: TcpStream, machine: &Arc<Machine>) -> Self {
        Self { stream, machine: Arc::clone(machine) }
    }
}

impl AsyncRead for OfProcess {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for OfProcess {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.machine.has_ended() {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
