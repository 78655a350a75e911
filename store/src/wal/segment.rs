//! One segment file: its head, its batches, and how an intact prefix is told from a torn tail and from corruption.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use proto::raft as wire;

use super::record::{self, Kind, LogState, RECORD_HEADER_BYTES, Record};

/// Batches start on multiples of this. A page, so that no write touches a page that was synced before.
pub(crate) const BLOCK_BYTES: u64 = 4096;
/// Offset of the first batch, behind the head block.
pub(crate) const FIRST_BATCH: u64 = BLOCK_BYTES;

const MAGIC: &[u8; 8] = b"KEELSWAL";
/// Version of everything in a segment.
const FORMAT_VERSION: u32 = 1;
/// Magic, version, sequence, checksum.
const HEAD_BYTES: usize = 8 + 4 + 8 + 4;
/// Synced offset and length of the records that follow.
const BATCH_PAYLOAD_BYTES: usize = 8 + 4;
pub(crate) const BATCH_HEADER_BYTES: usize = RECORD_HEADER_BYTES + BATCH_PAYLOAD_BYTES;

/// Where an entry's bytes stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    pub segment: u64,
    pub offset: u64,
    pub length: usize,
}

/// Returns the file name of a segment.
pub(crate) fn file_name(sequence: u64) -> String {
    format!("{sequence:016x}.wal")
}

/// Returns the sequence of a segment file name.
pub(crate) fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    if digits.len() == 16 { u64::from_str_radix(digits, 16).ok() } else { None }
}

/// Rounds up to a whole block.
pub(crate) const fn block_ceil(offset: u64) -> u64 {
    offset.div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}

/// What the state record at the head of a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadState {
    pub(crate) state: LogState,
    /// The segment before; 0 for the first.
    pub(crate) previous_sequence: u64,
    /// Bytes of that segment which count.
    pub(crate) previous_end: u64,
}

impl HeadState {
    fn encode(&self) -> Vec<u8> {
        wire::WalState {
            vote: self.state.vote.map(Into::into),
            purged: self.state.purged.map(Into::into),
            last: self.state.last.map(Into::into),
            committed: self.state.committed.map(Into::into),
            previous_sequence: self.previous_sequence,
            previous_end: self.previous_end,
        }
        .encode_to_vec()
    }

    fn decode(payload: &Bytes) -> Option<Self> {
        let state = wire::WalState::decode(payload.clone()).ok()?;
        Some(Self {
            state: LogState {
                vote: state.vote.map(Into::into),
                purged: state.purged.map(Into::into),
                last: state.last.map(Into::into),
                committed: state.committed.map(Into::into),
            },
            previous_sequence: state.previous_sequence,
            previous_end: state.previous_end,
        })
    }
}

/// Returns the first blocks of a new segment: the head and the batch with its state.
pub(crate) fn encode_start(sequence: u64, head: &HeadState) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_slice(MAGIC);
    out.put_u32_le(FORMAT_VERSION);
    out.put_u64_le(sequence);
    let crc = crc32fast::hash(&out);
    out.put_u32_le(crc);
    pad(&mut out);
    let mut records = BytesMut::new();
    record::encode_raw(Kind::State, sequence, &head.encode(), &mut records);
    encode_batch(sequence, 0, &records, &mut out);
    out
}

/// Appends one batch, padded to a whole block.
pub(crate) fn encode_batch(sequence: u64, synced: u64, records: &[u8], out: &mut BytesMut) {
    let mut payload = BytesMut::with_capacity(BATCH_PAYLOAD_BYTES);
    payload.put_u64_le(synced);
    payload.put_u32_le(u32::try_from(records.len()).expect("a batch is limited far below 4 GiB"));
    record::encode_raw(Kind::Batch, sequence, &payload, out);
    out.put_slice(records);
    pad(out);
}

/// Returns the seal of a segment: a batch behind what counts of it, which says that the next segment has begun.
pub(crate) fn encode_seal(sequence: u64, end: u64) -> BytesMut {
    let mut records = BytesMut::new();
    record::encode_raw(Kind::Sealed, sequence, &[], &mut records);
    let mut out = BytesMut::new();
    encode_batch(sequence, end, &records, &mut out);
    out
}

fn pad(out: &mut BytesMut) {
    let length = u64::try_from(out.len()).expect("usize fits in u64");
    out.resize(size(block_ceil(length)), 0);
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).expect("segments are far smaller than the address space")
}

/// A record found in a segment, with where its payload stands.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) record: Record,
    pub(crate) location: Location,
    /// End of the batch that holds it.
    pub(crate) batch_end: u64,
}

/// The intact part of a segment.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) head: HeadState,
    pub(crate) records: Vec<Found>,
    /// Highest offset that is proven to have been synced: by a batch header, or because it is the state batch, whose
    /// sync comes before anything else is written.
    pub(crate) proven: u64,
    /// Head and state when nothing but themselves says that they were synced.
    pub(crate) unproven_start: Option<Bytes>,
    /// Whether it says that another segment follows.
    pub(crate) is_sealed: bool,
}

/// Why a segment gave no records.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ScanError {
    /// The file never became a segment: nothing in it was ever synced.
    NeverStarted,
    /// Bytes at this offset were synced once and are not intact now.
    Corrupt { offset: u64 },
    /// Another program version wrote it.
    Version { found: u32 },
}

/// Reads a segment up to its first record that is not intact, or up to `limit`.
pub(crate) fn scan(sequence: u64, bytes: &Bytes, limit: Option<u64>) -> Result<Scan, ScanError> {
    let mut walk = Walk::new(sequence, bytes);
    let head_intact = match read_head(bytes, sequence) {
        Head::Intact => true,
        Head::Broken => false,
        Head::Version(found) => return Err(ScanError::Version { found }),
    };
    if !head_intact {
        return Err(walk.refuse_or(0, ScanError::NeverStarted));
    }
    let Some((head, mut offset)) = walk.state_batch() else {
        return Err(walk.refuse_or(FIRST_BATCH, ScanError::NeverStarted));
    };
    let state_end = offset;
    let end = limit.unwrap_or(u64::MAX);
    while offset < end {
        match walk.batch(offset) {
            Ok(next) => offset = next,
            Err(bad) => {
                if walk.proven_after(bad) {
                    return Err(ScanError::Corrupt { offset: bad });
                }
                break;
            }
        }
    }
    if limit.is_some_and(|limit| offset != limit) {
        return Err(ScanError::Corrupt { offset });
    }
    // The sync may have failed, or the process may have ended before it: then they stand in the page cache alone.
    let unproven_start = (walk.proven < state_end)
        .then(|| Bytes::copy_from_slice(&bytes.slice(..size(state_end).min(bytes.len()))));
    let Walk { proven, records, is_sealed, .. } = walk;
    Ok(Scan { head, proven: proven.max(state_end), records, unproven_start, is_sealed })
}

/// Bytes that [`read_start`] needs: the head block and a state record, which is far below a block.
pub(crate) const START_BYTES: usize = 8192;

/// Reads the state at the head of a segment that later segments build on.
pub(crate) fn read_start(sequence: u64, bytes: &Bytes) -> Option<HeadState> {
    let mut walk = Walk::new(sequence, bytes);
    match read_head(bytes, sequence) {
        Head::Intact => walk.state_batch().map(|(head, _)| head),
        Head::Broken | Head::Version(_) => None,
    }
}

enum Head {
    Intact,
    Broken,
    Version(u32),
}

fn read_head(bytes: &Bytes, sequence: u64) -> Head {
    let Some(head) = bytes.get(..HEAD_BYTES) else { return Head::Broken };
    let (body, mut crc) = head.split_at(HEAD_BYTES - 4);
    let mut fields = body;
    let magic = fields.copy_to_bytes(MAGIC.len());
    let version = fields.get_u32_le();
    if magic != MAGIC.as_slice() || crc.get_u32_le() != crc32fast::hash(body) {
        return Head::Broken;
    }
    if version != FORMAT_VERSION {
        return Head::Version(version);
    }
    if fields.get_u64_le() == sequence { Head::Intact } else { Head::Broken }
}

struct Walk<'a> {
    sequence: u64,
    bytes: &'a Bytes,
    proven: u64,
    records: Vec<Found>,
    is_sealed: bool,
}

impl<'a> Walk<'a> {
    fn new(sequence: u64, bytes: &'a Bytes) -> Self {
        Self { sequence, bytes, proven: 0, records: Vec::new(), is_sealed: false }
    }

    fn at(&self, offset: u64) -> Bytes {
        self.bytes.slice(size(offset).min(self.bytes.len())..)
    }

    /// Reads a batch header: the synced offset and the records.
    fn header(&self, offset: u64) -> Option<(u64, Bytes, u64)> {
        let mut rest = self.at(offset);
        let raw = record::decode_raw(self.sequence, &mut rest)?;
        if raw.kind != Kind::Batch || raw.payload.len() != BATCH_PAYLOAD_BYTES {
            return None;
        }
        let mut payload = raw.payload;
        let synced = payload.get_u64_le();
        let length = payload.get_u32_le();
        let start = offset + u64::try_from(BATCH_HEADER_BYTES).ok()?;
        let length = usize::try_from(length).ok().filter(|length| *length <= rest.len())?;
        Some((synced, rest.split_to(length), start))
    }

    fn state_batch(&mut self) -> Option<(HeadState, u64)> {
        let (synced, mut records, start) = self.header(FIRST_BATCH)?;
        let length = u64::try_from(records.len()).ok()?;
        let raw = record::decode_raw(self.sequence, &mut records)?;
        let head = if raw.kind == Kind::State { HeadState::decode(&raw.payload)? } else { return None };
        self.proven = self.proven.max(synced);
        Some((head, block_ceil(start + length)))
    }

    /// Reads one batch and returns the offset after it, or the offset of the first byte that is not intact. Records
    /// of a batch that is not wholly intact do not count.
    fn batch(&mut self, offset: u64) -> Result<u64, u64> {
        let (synced, mut rest, start) = self.header(offset).ok_or(offset)?;
        let length = u64::try_from(rest.len()).map_err(|_| offset)?;
        let batch_end = block_ceil(start + length);
        let mut found = Vec::new();
        let mut position = start;
        let mut is_sealed = self.is_sealed;
        while !rest.is_empty() {
            let raw = record::decode_raw(self.sequence, &mut rest).ok_or(position)?;
            let header = u64::try_from(RECORD_HEADER_BYTES).map_err(|_| position)?;
            let payload = u64::try_from(raw.payload.len()).map_err(|_| position)?;
            if raw.kind == Kind::Sealed {
                is_sealed = true;
            } else {
                let record = Record::decode(raw.kind, &raw.payload).ok_or(position)?;
                let offset = position + header;
                let location = Location { segment: self.sequence, offset, length: raw.payload.len() };
                found.push(Found { record, location, batch_end });
            }
            position += header + payload;
        }
        self.records.append(&mut found);
        self.is_sealed = is_sealed;
        self.proven = self.proven.max(synced);
        Ok(batch_end)
    }

    /// Whether any batch behind `bad` says that it had been synced.
    fn proven_after(&self, bad: u64) -> bool {
        let length = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        let mut offset = block_ceil(bad.max(FIRST_BATCH));
        while offset < length {
            if self.synced_of(offset).is_some_and(|synced| synced > bad) {
                return true;
            }
            offset += BLOCK_BYTES;
        }
        self.proven > bad
    }

    /// The synced offset of a batch header, whether or not its records are intact.
    fn synced_of(&self, offset: u64) -> Option<u64> {
        let mut rest = self.at(offset);
        let raw = record::decode_raw(self.sequence, &mut rest)?;
        let mut payload = raw.payload;
        (raw.kind == Kind::Batch && payload.len() == BATCH_PAYLOAD_BYTES).then(|| payload.get_u64_le())
    }

    fn refuse_or(&self, offset: u64, otherwise: ScanError) -> ScanError {
        if self.proven_after(offset) { ScanError::Corrupt { offset } } else { otherwise }
    }
}
