//! SPDY/3.1 as kubectl, kubelets and containerd still use it: streams over one upgraded connection.
//!
//! [`frame`] and [`headers`] are pure (bytes in, frames out); [`session`] runs them over a connection and hands out
//! [`Stream`]s; [`handshake`] does the HTTP/1.1 upgrade on either side.
//!
//! Flow control is left out on purpose: the peers that exist neither send WINDOW_UPDATE nor honour it, so a sender that
//! waited for credit would wait for ever. Back-pressure is TCP's: a stream whose reader is slow stops the connection.

mod dictionary;
pub mod frame;
pub mod handshake;
pub mod headers;
mod session;

pub use headers::Headers;
pub use session::{Incoming, Session, Stream, StreamReader, StreamWriter};

/// Why a SPDY connection or stream failed.
#[derive(Debug, thiserror::Error)]
pub enum SpdyError {
    #[error("connection failed")]
    Io(#[from] std::io::Error),
    #[error("peer broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("header block cannot be read: {0}")]
    Headers(&'static str),
    #[error("frame of {0} bytes is too large")]
    FrameTooLarge(usize),
    #[error("stream was reset by the peer (status {0})")]
    Reset(u32),
    #[error("session is closed")]
    Closed,
    #[error("upgrade refused: HTTP {0}: {1}")]
    Refused(u16, String),
    #[error("HTTP exchange failed")]
    Http(#[from] hyper::Error),
}

#[cfg(test)]
mod tests;
