//! The upgrade to WebSocket, and messages over the upgraded connection.

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderMap, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use super::PROTOCOLS;
use super::channel::ChannelMessage;

/// Largest message that a client may send.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Why a socket failed.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("WebSocket failed")]
    WebSocket(#[from] tokio_tungstenite::tungstenite::Error),
}

/// A request's wish to speak one of our protocols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    key: String,
    /// The protocol chosen.
    pub protocol: &'static str,
}

impl Handshake {
    /// Reads the headers of a request; `None` when it asks for no WebSocket or offers no protocol of ours.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        if !text(UPGRADE)?.eq_ignore_ascii_case("websocket") {
            return None;
        }
        let offered: Vec<&str> = headers
            .get_all(SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        let protocol = PROTOCOLS.into_iter().find(|protocol| offered.contains(protocol))?;
        Some(Self { key: text(SEC_WEBSOCKET_KEY)?.to_owned(), protocol })
    }

    /// Reports whether a request asks for a WebSocket at all.
    #[must_use]
    pub fn is_upgrade(headers: &HeaderMap) -> bool {
        let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
        upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
    }

    /// Returns the answer that switches protocols.
    #[must_use]
    pub fn accept<B: Default>(&self) -> Response<B> {
        let mut response = Response::new(B::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(self.protocol));
        let accept = derive_accept_key(self.key.as_bytes());
        if let Ok(accept) = HeaderValue::from_str(&accept) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        response
    }
}

/// A server's end of a channel connection.
pub struct ChannelSocket(Socket);

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    Message(ChannelMessage),
    /// The client is gone; nothing more comes.
    Closed,
}

impl ChannelSocket {
    /// Speaks over an upgraded connection.
    pub async fn server(upgraded: Upgraded) -> Self {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        Self(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await)
    }

    /// Splits the socket into its directions.
    #[must_use]
    pub fn split(self) -> (ChannelReader, ChannelWriter) {
        let (sink, stream) = self.0.split();
        (ChannelReader(stream), ChannelWriter(sink))
    }
}

/// Receives messages.
pub struct ChannelReader(SplitStream<Socket>);

impl ChannelReader {
    /// Returns the next message; answers pings on the way. Cancel safe.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next(&mut self) -> Result<Received, SocketError> {
        loop {
            match self.0.next().await.transpose()? {
                None | Some(Message::Close(_)) => return Ok(Received::Closed),
                Some(Message::Binary(bytes)) => {
                    if let Some(message) = ChannelMessage::parse(bytes) {
                        return Ok(Received::Message(message));
                    }
                }
                Some(Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
            }
        }
    }
}

/// Sends messages.
pub struct ChannelWriter(SplitSink<Socket, Message>);

impl ChannelWriter {
    /// Sends bytes on a channel.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn send(&mut self, channel: u8, bytes: Bytes) -> Result<(), SocketError> {
        let message = ChannelMessage::Data { channel, bytes };
        Ok(self.0.send(Message::Binary(message.encode())).await?)
    }

    /// Says goodbye. The close carries a code: clients of the channel protocols take one without for a broken connection.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn close(&mut self) -> Result<(), SocketError> {
        let normal = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
        self.0.send(Message::Close(Some(normal))).await?;
        Ok(self.0.close().await?)
    }
}
