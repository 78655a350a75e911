//! The simulated network behind the store's `Net`.

use std::io;
use std::net::SocketAddr;

use futures::future::BoxFuture;
use store::net::{Connection, Listener, Net};
use turmoil::net::{TcpListener, TcpStream};

/// Sockets of the simulated host that uses them.
pub struct SimNet;

struct Accepting(TcpListener);

impl Listener for Accepting {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<BoxFuture<'static, io::Result<Connection>>>> {
        Box::pin(async {
            let (stream, _) = self.0.accept().await?;
            let ready: BoxFuture<'static, _> = Box::pin(async { Ok(Connection::new(stream)) });
            Ok(ready)
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Net for SimNet {
    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let address = address.to_owned();
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            Ok(Box::new(Accepting(listener)) as Box<dyn Listener>)
        })
    }

    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Connection>> {
        let address = address.to_owned();
        Box::pin(async move { Ok(Connection::new(TcpStream::connect(address).await?)) })
    }
}
