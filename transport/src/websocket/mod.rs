//! Kubernetes' channel protocols over WebSocket (`channel.k8s.io`, v4 and v5): several streams in one connection, told
//! apart by the first byte of each binary message.
//!
//! [`channel`] is the pure framing; [`socket`] does the upgrade and carries messages.

mod channel;
mod socket;

pub use channel::{ChannelMessage, ERROR, RESIZE, STDERR, STDIN, STDOUT, Size, parse_size};
pub use socket::{ChannelReader, ChannelSocket, ChannelWriter, Handshake, Received, SocketError};

/// Protocols that we speak, best first.
pub const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
