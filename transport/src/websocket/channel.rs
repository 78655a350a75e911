//! Messages of the channel protocols. Pure.

use bytes::{BufMut, Bytes, BytesMut};

/// Channel numbers.
pub const STDIN: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
/// Carries one `metav1.Status` at the end.
pub const ERROR: u8 = 3;
pub const RESIZE: u8 = 4;
/// v5 only: the message's second byte names the channel that is closed.
const CLOSE: u8 = 255;

/// One binary message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelMessage {
    Data {
        channel: u8,
        bytes: Bytes,
    },
    /// The sender closes a channel (v5).
    Close {
        channel: u8,
    },
}

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub width: u16,
    pub height: u16,
}

impl ChannelMessage {
    /// Reads a message; `None` when it is empty or a close without a channel.
    #[must_use]
    pub fn parse(mut message: Bytes) -> Option<Self> {
        let channel = *message.first()?;
        if channel == CLOSE {
            return message.get(1).map(|channel| Self::Close { channel: *channel });
        }
        Some(Self::Data { channel, bytes: message.split_off(1) })
    }

    /// Returns the message as bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Close { channel } => Bytes::copy_from_slice(&[CLOSE, *channel]),
            Self::Data { channel, bytes } => {
                let mut message = BytesMut::with_capacity(bytes.len() + 1);
                message.put_u8(*channel);
                message.extend_from_slice(bytes);
                message.freeze()
            }
        }
    }
}

/// Reads what the resize channel carries: `{"Width":80,"Height":24}`.
#[must_use]
pub fn parse_size(json: &[u8]) -> Option<Size> {
    let text = std::str::from_utf8(json).ok()?;
    Some(Size { width: number_after(text, "\"Width\"")?, height: number_after(text, "\"Height\"")? })
}

/// Two numbers do not justify a JSON parser in this crate; anything unexpected reads as "no size".
fn number_after(text: &str, key: &str) -> Option<u16> {
    let (_, rest) = text.split_once(key)?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_are_framed_as_the_protocol_says() {
        let parse = |bytes: &'static [u8]| ChannelMessage::parse(Bytes::from_static(bytes));
        assert_eq!(
            parse(b"\x00hi"),
            Some(ChannelMessage::Data { channel: STDIN, bytes: Bytes::from_static(b"hi") })
        );
        assert_eq!(parse(b"\x01"), Some(ChannelMessage::Data { channel: STDOUT, bytes: Bytes::new() }));
        assert_eq!(parse(b"\xff\x00"), Some(ChannelMessage::Close { channel: STDIN }));
        assert_eq!(parse(b"\xff"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn terminal_size_is_read() {
        assert_eq!(parse_size(br#"{"Width":80,"Height":24}"#), Some(Size { width: 80, height: 24 }));
        assert_eq!(parse_size(br#"{"Height": 24, "Width": 80}"#), Some(Size { width: 80, height: 24 }));
        assert_eq!(parse_size(b"{}"), None);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_again(channel in 0_u8..255, bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let message = ChannelMessage::Data { channel, bytes: bytes.into() };
            prop_assert_eq!(ChannelMessage::parse(message.encode()), Some(message));
        }
    }
}
