//! Records of the log and their bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use proto::raft as wire;

/// Bytes before a record's payload: length, checksum, segment sequence, type.
pub(crate) const RECORD_HEADER_BYTES: usize = 4 + 4 + 8 + 1;
/// Largest payload; far above the largest request (1.5 MiB) and membership.
pub(crate) const RECORD_PAYLOAD_BYTES_MAX: usize = 48 * 1024 * 1024;

/// Position in the replicated log. One term has at most one leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    pub term: u64,
    pub index: u64,
}

/// A member's vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    pub term: u64,
    pub voted_for: u64,
    /// Whether a quorum granted it, so that `voted_for` leads this term.
    pub committed: bool,
}

/// One log entry. `bytes` is the whole encoded `keelson.raft.v1.Entry`, which repeats the position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: LogPosition,
    pub bytes: Bytes,
}

/// What the records of a log add up to, apart from the entries themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    pub vote: Option<Vote>,
    pub purged: Option<LogPosition>,
    /// The last entry, or `purged` when no entry is left.
    pub last: Option<LogPosition>,
    pub committed: Option<LogPosition>,
}

/// How a record breaks the order of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {found} follows entry {last:?} and leaves a hole")]
pub struct Hole {
    pub last: Option<u64>,
    pub found: u64,
}

impl LogState {
    /// Folds one record into the state.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<(), Hole> {
        match record {
            Record::Entry(entry) => {
                // An empty log may begin anywhere; recovery knows what was purged and checks the beginning.
                let expected = self.last.map_or(entry.id.index, |last| last.index + 1);
                if entry.id.index != expected {
                    return Err(Hole { last: self.last.map(|last| last.index), found: entry.id.index });
                }
                self.last = Some(entry.id);
            }
            Record::Vote(vote) => self.vote = Some(*vote),
            Record::Committed(position) => self.committed = *position,
            Record::TruncateAfter(position) => self.last = (*position).max(self.purged),
            Record::PurgedUpto(position) => {
                self.purged = self.purged.max(Some(*position));
                if self.last.is_none_or(|last| last.index < position.index) {
                    self.last = Some(*position);
                }
            }
        }
        Ok(())
    }
}

/// One change of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Entry(Entry),
    Vote(Vote),
    Committed(Option<LogPosition>),
    /// Removes every entry after this one; `None` removes all.
    TruncateAfter(Option<LogPosition>),
    /// Removes every entry up to this one, which may lie beyond the last (after a snapshot).
    PurgedUpto(LogPosition),
}

impl Record {
    /// Whether someone waits for this record to be durable. The others only need their order.
    #[must_use]
    pub fn needs_sync(&self) -> bool {
        match self {
            Self::Entry(_) | Self::Vote(_) => true,
            Self::Committed(_) | Self::TruncateAfter(_) | Self::PurgedUpto(_) => false,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Entry(_) => Kind::Entry,
            Self::Vote(_) => Kind::Vote,
            Self::Committed(_) => Kind::Committed,
            Self::TruncateAfter(_) => Kind::TruncateAfter,
            Self::PurgedUpto(_) => Kind::PurgedUpto,
        }
    }

    /// Appends this record to a batch and returns the length of its payload.
    pub(crate) fn encode(&self, sequence: u64, out: &mut BytesMut) -> usize {
        let payload = match self {
            Self::Entry(entry) => entry.bytes.clone(),
            Self::Vote(vote) => wire::Vote::from(*vote).encode_to_vec().into(),
            Self::Committed(position) | Self::TruncateAfter(position) => encode_position(*position),
            Self::PurgedUpto(position) => encode_position(Some(*position)),
        };
        encode_raw(self.kind(), sequence, &payload, out);
        payload.len()
    }

    /// Reads the record of a raw record; `None` when the payload is malformed.
    pub(crate) fn decode(kind: Kind, payload: &Bytes) -> Option<Self> {
        match kind {
            Kind::Entry => {
                let entry = EntryId::decode(payload.clone()).ok()?;
                Some(Self::Entry(Entry { id: entry.id?.into(), bytes: payload.clone() }))
            }
            Kind::Vote => wire::Vote::decode(payload.clone()).ok().map(|vote| Self::Vote(vote.into())),
            Kind::Committed => decode_position(payload).map(Self::Committed),
            Kind::TruncateAfter => decode_position(payload).map(Self::TruncateAfter),
            Kind::PurgedUpto => decode_position(payload)?.map(Self::PurgedUpto),
            Kind::Batch | Kind::State | Kind::Sealed => None,
        }
    }
}

/// Type byte of a record. Zero is no type, so that zero-filled bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Batch,
    State,
    Entry,
    Vote,
    Committed,
    TruncateAfter,
    PurgedUpto,
    Sealed,
}

impl Kind {
    const fn tag(self) -> u8 {
        match self {
            Self::Batch => 1,
            Self::State => 2,
            Self::Entry => 3,
            Self::Vote => 4,
            Self::Committed => 5,
            Self::TruncateAfter => 6,
            Self::PurgedUpto => 7,
            Self::Sealed => 8,
        }
    }

    const fn from_tag(tag: u8) -> Option<Self> {
        Some(match tag {
            1 => Self::Batch,
            2 => Self::State,
            3 => Self::Entry,
            4 => Self::Vote,
            5 => Self::Committed,
            6 => Self::TruncateAfter,
            7 => Self::PurgedUpto,
            8 => Self::Sealed,
            _ => return None,
        })
    }
}

/// Appends a raw record.
pub(crate) fn encode_raw(kind: Kind, sequence: u64, payload: &[u8], out: &mut BytesMut) {
    assert!(
        payload.len() <= RECORD_PAYLOAD_BYTES_MAX,
        "a record of {} bytes is beyond the limit",
        payload.len()
    );
    let length = u32::try_from(payload.len()).expect("the limit above is below u32::MAX");
    out.reserve(RECORD_HEADER_BYTES + payload.len());
    out.put_u32_le(length);
    out.put_u32_le(checksum(length, sequence, kind.tag(), payload));
    out.put_u64_le(sequence);
    out.put_u8(kind.tag());
    out.put_slice(payload);
}

/// A record whose checksum holds.
pub(crate) struct Raw {
    pub(crate) kind: Kind,
    pub(crate) payload: Bytes,
}

/// Takes one raw record of segment `sequence` off the front; `None` when there is no intact one.
pub(crate) fn decode_raw(sequence: u64, bytes: &mut Bytes) -> Option<Raw> {
    let mut header = bytes.get(..RECORD_HEADER_BYTES)?;
    let length = header.get_u32_le();
    let crc = header.get_u32_le();
    let found_sequence = header.get_u64_le();
    let tag = header.get_u8();
    let size = usize::try_from(length).ok().filter(|size| *size <= RECORD_PAYLOAD_BYTES_MAX)?;
    let payload = bytes.get(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + size)?;
    if found_sequence != sequence || crc != checksum(length, sequence, tag, payload) {
        return None;
    }
    let kind = Kind::from_tag(tag)?;
    let record = bytes.split_to(RECORD_HEADER_BYTES + size);
    Some(Raw { kind, payload: record.slice(RECORD_HEADER_BYTES..) })
}

fn checksum(length: u32, sequence: u64, tag: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(&sequence.to_le_bytes());
    hasher.update(&[tag]);
    hasher.update(payload);
    hasher.finalize()
}

/// The part of an encoded entry that the log itself reads.
#[derive(Clone, PartialEq, Message)]
struct EntryId {
    #[prost(message, optional, tag = "1")]
    id: Option<wire::LogId>,
}

fn encode_position(position: Option<LogPosition>) -> Bytes {
    wire::WalPosition { id: position.map(Into::into) }.encode_to_vec().into()
}

fn decode_position(payload: &Bytes) -> Option<Option<LogPosition>> {
    wire::WalPosition::decode(payload.clone()).ok().map(|position| position.id.map(Into::into))
}

impl From<wire::LogId> for LogPosition {
    fn from(id: wire::LogId) -> Self {
        Self { term: id.term, index: id.index }
    }
}

impl From<LogPosition> for wire::LogId {
    fn from(position: LogPosition) -> Self {
        Self { term: position.term, index: position.index }
    }
}

impl From<wire::Vote> for Vote {
    fn from(vote: wire::Vote) -> Self {
        Self { term: vote.term, voted_for: vote.voted_for, committed: vote.committed }
    }
}

impl From<Vote> for wire::Vote {
    fn from(vote: Vote) -> Self {
        Self { term: vote.term, voted_for: vote.voted_for, committed: vote.committed }
    }
}
