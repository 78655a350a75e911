//! Byte streams to one server: TLS over TCP, or what a simulator has in their place.

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::Access;

/// What a connection must be able to do.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens connections for HTTP/1.1 to one server, on which the client is known already.
pub trait Dial: Send + Sync {
    /// Opens one. Nothing has been asked of the server when it fails.
    fn dial(&self) -> BoxFuture<'static, io::Result<Box<dyn Stream>>>;
}

/// TLS with the client's certificate, over TCP.
pub(super) struct Tls {
    /// `host:port`.
    address: String,
    config: Arc<ClientConfig>,
}

impl Tls {
    pub(super) fn new(address: &str, access: &Access) -> Self {
        Self { address: address.to_owned(), config: access.identity.config_with_alpn(&[b"http/1.1"]) }
    }
}

impl Dial for Tls {
    fn dial(&self) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let (address, config) = (self.address.clone(), Arc::clone(&self.config));
        Box::pin(async move {
            let stream = TcpStream::connect(&address).await?;
            stream.set_nodelay(true)?;
            let host = address.rsplit_once(':').map_or("", |(host, _)| host).to_owned();
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            let stream: Box<dyn Stream> = Box::new(stream);
            Ok(stream)
        })
    }
}
