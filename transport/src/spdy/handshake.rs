//! The HTTP/1.1 upgrade to SPDY/3.1, on either side.

use http::header::{CONNECTION, HOST, HeaderValue, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::SpdyError;

/// Name of the protocol in the `Upgrade` header.
pub const PROTOCOL: &str = "SPDY/3.1";
/// Header that offers and chooses the protocol spoken over the streams.
pub const STREAM_PROTOCOL: &str = "x-stream-protocol-version";

/// An upgraded connection.
pub type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

/// Where to connect and what to offer.
#[derive(Clone, Debug)]
pub struct Offer<'a> {
    pub host: &'a str,
    /// Path with query.
    pub path: &'a str,
    /// Protocols over the streams, best first (`v4.channel.k8s.io`).
    pub protocols: &'a [&'a str],
}

/// Upgrades a fresh connection; returns it with the protocol that the server chose.
///
/// Give it a deadline. The HTTP driver is awaited inside, so nothing is left running.
///
/// # Errors
/// [`SpdyError::Refused`] with the server's answer when it does not switch.
pub async fn connect<T>(io: T, offer: &Offer<'_>) -> Result<(Upgraded, String), SpdyError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    let exchange = async {
        let mut request =
            Request::post(offer.path).body(String::new()).map_err(|_| SpdyError::Protocol("path"))?;
        let headers = request.headers_mut();
        let host = HeaderValue::from_str(offer.host).map_err(|_| SpdyError::Protocol("host"))?;
        headers.insert(HOST, host);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
        for protocol in offer.protocols {
            let value = HeaderValue::from_str(protocol).map_err(|_| SpdyError::Protocol("protocol name"))?;
            headers.append(STREAM_PROTOCOL, value);
        }
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status();
            return Err(SpdyError::Refused(status.as_u16(), status.to_string()));
        }
        let chosen = response.headers().get(STREAM_PROTOCOL).and_then(|value| value.to_str().ok());
        let chosen = chosen.unwrap_or_default().to_owned();
        Ok((TokioIo::new(hyper::upgrade::on(response).await?), chosen))
    };
    let connection = connection.with_upgrades();
    tokio::pin!(exchange);
    tokio::select! {
        done = &mut exchange => done,
        // After the upgrade the driver ends by itself; only then is the exchange complete.
        driven = connection => {
            driven?;
            exchange.await
        }
    }
}

/// Reports whether a request asks for SPDY/3.1.
#[must_use]
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.eq_ignore_ascii_case(PROTOCOL))
}

/// Chooses the first of our protocols that the client offers; `None` when there is none.
#[must_use]
pub fn choose<'a>(headers: &HeaderMap, ours: &[&'a str]) -> Option<&'a str> {
    let offered: Vec<&str> = headers
        .get_all(STREAM_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    ours.iter().find(|protocol| offered.contains(protocol)).copied()
}

/// Returns the answer that switches protocols.
#[must_use]
pub fn accept<B: Default>(protocol: &'static str) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    response
}
