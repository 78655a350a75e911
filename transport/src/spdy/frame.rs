//! Frames as bytes. Pure: [`take`] finds a whole frame in what was read, [`encode`] writes one.
//!
//! ```text
//! control: |1| version 3 (15) | type (16) | flags (8) | length (24) | …
//! data:    |0| stream id (31)             | flags (8) | length (24) | bytes
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::SpdyError;
use super::headers::{HeaderDecoder, HeaderEncoder, Headers};

const VERSION: u16 = 3;
const CONTROL_BIT: u32 = 0x8000_0000;
const ID_MASK: u32 = 0x7fff_ffff;
const FLAG_FIN: u8 = 0x01;
const HEAD_BYTES: usize = 8;
/// Largest frame accepted; peers send at most 64 KiB of data at a time.
const FRAME_BYTES_MAX: usize = 1024 * 1024;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// One frame. `fin` means that its sender sends nothing more on the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    SynStream { id: u32, headers: Headers, fin: bool },
    SynReply { id: u32, headers: Headers, fin: bool },
    Data { id: u32, bytes: Bytes, fin: bool },
    Headers { id: u32, headers: Headers, fin: bool },
    Reset { id: u32, status: u32 },
    Settings(Vec<(u32, u32)>),
    Ping(u32),
    GoAway { last_id: u32, status: u32 },
    WindowUpdate { id: u32, delta: u32 },
}

/// Takes a whole frame off the front of `buffer`; `None` when more bytes are needed.
///
/// # Errors
/// Bytes that are no SPDY/3.1 frame; the session must end.
pub fn take(buffer: &mut BytesMut, decoder: &mut HeaderDecoder) -> Result<Option<Frame>, SpdyError> {
    let Some(head) = buffer.get(..HEAD_BYTES) else { return Ok(None) };
    let mut head = head;
    let (first, second) = (head.get_u32(), head.get_u32());
    let length = usize::try_from(second & 0x00ff_ffff).map_err(|_| SpdyError::Protocol("length"))?;
    if length > FRAME_BYTES_MAX {
        return Err(SpdyError::FrameTooLarge(length));
    }
    if buffer.len() < HEAD_BYTES + length {
        buffer.reserve(HEAD_BYTES + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(HEAD_BYTES);
    let body = buffer.split_to(length).freeze();
    let flags = second.to_be_bytes()[0];
    let fin = flags & FLAG_FIN != 0;
    if first & CONTROL_BIT == 0 {
        return Ok(Some(Frame::Data { id: first, bytes: body, fin }));
    }
    let [version_high, version_low, type_high, type_low] = first.to_be_bytes();
    if u16::from_be_bytes([version_high & 0x7f, version_low]) != VERSION {
        return Err(SpdyError::Protocol("version is not 3"));
    }
    control(u16::from_be_bytes([type_high, type_low]), fin, body, decoder).map(Some)
}

fn control(kind: u16, fin: bool, mut body: Bytes, decoder: &mut HeaderDecoder) -> Result<Frame, SpdyError> {
    match kind {
        SYN_STREAM => {
            let id = word(&mut body)? & ID_MASK;
            let _associated = word(&mut body)?;
            let _priority_and_slot = short(&mut body)?;
            Ok(Frame::SynStream { id, headers: decoder.decode(&body)?, fin })
        }
        SYN_REPLY => {
            Ok(Frame::SynReply { id: word(&mut body)? & ID_MASK, headers: decoder.decode(&body)?, fin })
        }
        HEADERS => {
            Ok(Frame::Headers { id: word(&mut body)? & ID_MASK, headers: decoder.decode(&body)?, fin })
        }
        RST_STREAM => Ok(Frame::Reset { id: word(&mut body)? & ID_MASK, status: word(&mut body)? }),
        PING => Ok(Frame::Ping(word(&mut body)?)),
        GOAWAY => Ok(Frame::GoAway { last_id: word(&mut body)? & ID_MASK, status: word(&mut body)? }),
        WINDOW_UPDATE => {
            Ok(Frame::WindowUpdate { id: word(&mut body)? & ID_MASK, delta: word(&mut body)? & ID_MASK })
        }
        SETTINGS => {
            let count = word(&mut body)?;
            let setting = |_| Ok((word(&mut body)? & 0x00ff_ffff, word(&mut body)?));
            let settings: Result<Vec<_>, SpdyError> = (0..count).map(setting).collect();
            settings.map(Frame::Settings)
        }
        _ => Err(SpdyError::Protocol("unknown control frame")),
    }
}

fn word(body: &mut Bytes) -> Result<u32, SpdyError> {
    if body.len() < 4 { Err(SpdyError::Protocol("frame cut short")) } else { Ok(body.get_u32()) }
}

fn short(body: &mut Bytes) -> Result<u16, SpdyError> {
    if body.len() < 2 { Err(SpdyError::Protocol("frame cut short")) } else { Ok(body.get_u16()) }
}

/// Appends a frame to `buffer`.
///
/// # Errors
/// Headers or data that are larger than a frame may be.
pub fn encode(frame: &Frame, encoder: &mut HeaderEncoder, buffer: &mut BytesMut) -> Result<(), SpdyError> {
    let mut body = BytesMut::new();
    let (first, fin) = match frame {
        Frame::Data { id, bytes, fin } => {
            body.extend_from_slice(bytes);
            (id & ID_MASK, *fin)
        }
        Frame::SynStream { id, headers, fin } => {
            body.put_u32(id & ID_MASK);
            body.put_u32(0);
            body.put_u16(0);
            body.extend_from_slice(&encoder.encode(headers)?);
            (control_word(SYN_STREAM), *fin)
        }
        Frame::SynReply { id, headers, fin } => {
            body.put_u32(id & ID_MASK);
            body.extend_from_slice(&encoder.encode(headers)?);
            (control_word(SYN_REPLY), *fin)
        }
        Frame::Headers { id, headers, fin } => {
            body.put_u32(id & ID_MASK);
            body.extend_from_slice(&encoder.encode(headers)?);
            (control_word(HEADERS), *fin)
        }
        Frame::Reset { id, status } => (two_words(&mut body, RST_STREAM, *id, *status), false),
        Frame::GoAway { last_id, status } => (two_words(&mut body, GOAWAY, *last_id, *status), false),
        Frame::WindowUpdate { id, delta } => (two_words(&mut body, WINDOW_UPDATE, *id, *delta), false),
        Frame::Ping(id) => {
            body.put_u32(*id);
            (control_word(PING), false)
        }
        Frame::Settings(settings) => {
            body.put_u32(
                u32::try_from(settings.len()).map_err(|_| SpdyError::Protocol("too many settings"))?,
            );
            for (id, value) in settings {
                body.put_u32(*id);
                body.put_u32(*value);
            }
            (control_word(SETTINGS), false)
        }
    };
    if body.len() > FRAME_BYTES_MAX {
        return Err(SpdyError::FrameTooLarge(body.len()));
    }
    let length = u32::try_from(body.len()).expect("a body is at most 1 MiB");
    let flags = if fin { u32::from(FLAG_FIN) << 24 } else { 0 };
    buffer.put_u32(first);
    buffer.put_u32(flags | length);
    buffer.extend_from_slice(&body);
    Ok(())
}

fn control_word(kind: u16) -> u32 {
    CONTROL_BIT | (u32::from(VERSION) << 16) | u32::from(kind)
}

fn two_words(body: &mut BytesMut, kind: u16, first: u32, second: u32) -> u32 {
    body.put_u32(first & ID_MASK);
    body.put_u32(second);
    control_word(kind)
}
