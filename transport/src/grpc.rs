//! Outgoing gRPC channels whose TLS identity is read anew for each connection.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use crate::tls::{ClientIdentity, TlsError};

/// How long a TCP and TLS handshake may take before another server is worth trying.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 pings find a dead peer on an idle connection within interval + timeout.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns a lazy channel to `server` (`https://host:port`) that proves `identity`; it connects on first use, and
/// again with the then-current identity whenever the connection is lost.
///
/// # Errors
/// [`TlsError::Address`] when `server` is no such URL.
pub fn channel(server: &str, identity: &ClientIdentity) -> Result<Channel, TlsError> {
    let bad_address = || TlsError::Address(server.to_owned());
    let uri: Uri = server.parse().map_err(|_| bad_address())?;
    let (Some("https"), Some(host), Some(port)) = (uri.scheme_str(), uri.host(), uri.port_u16()) else {
        return Err(bad_address());
    };
    let host = host.trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host.clone()).map_err(|_| bad_address())?;
    // tonic refuses `https` with a connector of our own; TLS happens inside the connector instead.
    let plain = format!("http://{}", uri.authority().ok_or_else(bad_address)?);
    let endpoint = Endpoint::from_shared(plain).map_err(|_| bad_address())?.origin(uri).tcp_nodelay(true);
    let endpoint = with_deadlines(endpoint);
    let target = Arc::new(Target { host, port, name, identity: identity.clone() });
    let connector = tower::service_fn(move |_: Uri| {
        let target = Arc::clone(&target);
        async move { target.connect().await.map(TokioIo::new) }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// Returns the endpoint with what finds out that nobody is at the other end, over whatever it connects.
#[must_use]
pub fn with_deadlines(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
}

struct Target {
    host: String,
    port: u16,
    name: ServerName<'static>,
    identity: ClientIdentity,
}

impl Target {
    async fn connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(self.identity.config_with_alpn(&[b"h2"]));
        connector.connect(self.name.clone(), stream).await
    }
}
