//! The index as a file, so that a start reads the rows behind it only.
//!
//! ```text
//! file:   [block: mark] [block: keys] … [empty block]
//! block:  length (4) ‖ xxh3 of the payload, seeded with the block's number (8) ‖ payload
//! key:    length (4) ‖ key ‖ hash of the newest row (16) ‖ number of rows (4) ‖ rows, oldest first
//! ```
//!
//! It is written a piece at a time while commands are applied, so each piece shows its keys a little later than the one before. What
//! is newer than the mark is left out. A key whose newest row is newer has no hash here; that newer row is in the engine by
//! the time that the file counts, and hides the ones from here. When it was a tombstone and has been collected, it is remembered elsewhere
//! until an index is saved that is newer; where it is not, the file is of no use.
//!
//! Nothing in it is believed: every byte is under a hash, and the state that comes out must have the digest that was stored with the
//! rows. Whoever finds something wrong reads all rows.

use std::io::{self, Read, Write};
use std::ops::Bound;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Index, KeyEntry, Newest, Version};
use crate::mvcc::{LeaseId, Revision, RowId};

/// Format of the file.
const FORMAT: u32 = 1;
const FRAME_BYTES: usize = 4 + 8;
/// A block holds [`KEYS_MAX`] keys; a single one with all its rows may be large.
const BLOCK_BYTES_MAX: usize = 1 << 30;
/// In place of the hash of the newest row, when that is behind the mark.
const NOT_NEWEST: u128 = 0;
const VERSION_BYTES: usize = 8 + 4 + 4 + 8 + 8 + 8;
/// Keys of one piece: they are copied under the lock that applying needs, in a fraction of a millisecond.
pub(crate) const KEYS_MAX: usize = 1000;
/// A piece ends early behind keys with many rows.
const PIECE_BYTES_MAX: usize = 256 << 10;

/// Which state a saved index shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Rows up to this revision are in it.
    pub(crate) revision: Revision,
    /// All that a compaction at this revision does not keep had been removed.
    pub(crate) compacted: Revision,
}

/// Why a saved index is not used.
#[derive(Debug, thiserror::Error)]
pub enum SavedIndexError {
    #[error("cannot be read")]
    Io(#[from] io::Error),
    #[error("block {0} is damaged")]
    Damaged(u64),
    #[error("has format {0}")]
    Format(u32),
    #[error("shows revision {saved}, the rows end at {stored}")]
    Ahead { saved: Revision, stored: Revision },
    #[error("the database holds no state")]
    NoState,
    #[error("rows were being removed when the database was closed")]
    Collecting,
    #[error("shows keys that were deleted before revision {0}, to which history is compacted")]
    Outdated(Revision),
    #[error("does not give the digest that is stored with the rows")]
    Digest,
}

/// Writes blocks.
pub(crate) struct Writer<'a> {
    out: &'a mut dyn Write,
    number: u64,
}

impl<'a> Writer<'a> {
    pub(crate) fn begin(out: &'a mut dyn Write, mark: Mark) -> io::Result<Self> {
        let mut writer = Self { out, number: 0 };
        let mut payload = BytesMut::new();
        payload.put_u32(FORMAT);
        payload.put_i64(mark.revision.0);
        payload.put_i64(mark.compacted.0);
        writer.block(&payload)?;
        Ok(writer)
    }

    pub(crate) fn keys(&mut self, payload: &[u8]) -> io::Result<()> {
        // An empty block is the end.
        if payload.is_empty() { Ok(()) } else { self.block(payload) }
    }

    pub(crate) fn end(mut self) -> io::Result<()> {
        self.block(&[])
    }

    fn block(&mut self, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let mut frame = BytesMut::with_capacity(FRAME_BYTES);
        frame.put_u32(length);
        frame.put_u64(xxh3_64_with_seed(payload, self.number));
        self.out.write_all(&frame)?;
        self.out.write_all(payload)?;
        self.number += 1;
        Ok(())
    }
}

/// Returns a file without keys, as another version might write it.
#[cfg(test)]
pub(crate) fn of_format(format: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = Writer { out: &mut file, number: 0 };
    let mut payload = BytesMut::new();
    payload.put_u32(format);
    payload.put_bytes(0, 8 + 8);
    writer.block(&payload).unwrap();
    writer.end().unwrap();
    file
}

/// Reads blocks.
pub(crate) struct Reader<'a> {
    source: &'a mut dyn Read,
    number: u64,
}

impl<'a> Reader<'a> {
    pub(crate) fn begin(source: &'a mut dyn Read) -> Result<(Self, Mark), SavedIndexError> {
        let mut reader = Self { source, number: 0 };
        let mut payload = reader.block()?;
        if payload.len() != 4 + 8 + 8 {
            return Err(SavedIndexError::Damaged(0));
        }
        let format = payload.get_u32();
        if format != FORMAT {
            return Err(SavedIndexError::Format(format));
        }
        let mark = Mark { revision: Revision(payload.get_i64()), compacted: Revision(payload.get_i64()) };
        Ok((reader, mark))
    }

    /// Reads all keys into an empty index.
    pub(crate) fn into_index(mut self, mark: Mark) -> Result<Index, SavedIndexError> {
        let mut index = Index::default();
        let mut last: Option<Bytes> = None;
        loop {
            let damaged = SavedIndexError::Damaged(self.number);
            let mut payload = self.block()?;
            if payload.is_empty() {
                break;
            }
            while payload.has_remaining() {
                let Some((key, entry)) = read_key(&mut payload, mark.revision) else { return Err(damaged) };
                if last.is_some_and(|last| last >= key) {
                    return Err(damaged);
                }
                last = Some(key.clone());
                index.restore(key, entry);
            }
        }
        match self.source.read(&mut [0])? {
            0 => Ok(index),
            _ => Err(SavedIndexError::Damaged(self.number)),
        }
    }

    fn block(&mut self) -> Result<Bytes, SavedIndexError> {
        let mut frame = [0; FRAME_BYTES];
        self.source.read_exact(&mut frame)?;
        let mut frame = frame.as_slice();
        let (length, hash) = (frame.get_u32(), frame.get_u64());
        let damaged = SavedIndexError::Damaged(self.number);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > BLOCK_BYTES_MAX {
            return Err(damaged);
        }
        let mut payload = Vec::new();
        // Grows as bytes come, so that a wrong length takes no memory.
        let wanted = u64::try_from(length).unwrap_or(u64::MAX);
        (&mut *self.source).take(wanted).read_to_end(&mut payload)?;
        if payload.len() != length || xxh3_64_with_seed(&payload, self.number) != hash {
            return Err(damaged);
        }
        self.number += 1;
        Ok(payload.into())
    }
}

/// `None` for what no writer has written.
fn read_key(payload: &mut Bytes, last: Revision) -> Option<(Bytes, KeyEntry)> {
    let length = usize::try_from(payload.try_get_u32().ok()?).ok()?;
    if payload.remaining() < length {
        return None;
    }
    // Copied: a slice would keep the whole block.
    let key = Bytes::copy_from_slice(&payload.split_to(length));
    let element = payload.try_get_u128().ok()?;
    let rows = usize::try_from(payload.try_get_u32().ok()?).ok()?;
    if payload.remaining() / VERSION_BYTES < rows {
        return None;
    }
    let mut older = Vec::with_capacity(rows);
    for _ in 0..rows {
        older.push(read_version(payload)?);
    }
    let is_ordered = older.is_sorted_by(|left: &Version, right| left.row() < right.row());
    let version = older.pop().filter(|newest| is_ordered && newest.main <= last)?;
    older.shrink_to_fit();
    Some((key, KeyEntry { newest: Newest { version, element, cached: None }, older: older.into() }))
}

fn read_version(payload: &mut Bytes) -> Option<Version> {
    Some(Version {
        main: Revision(payload.try_get_i64().ok()?),
        sub: payload.try_get_u32().ok()?,
        size: payload.try_get_u32().ok()?,
        create: Revision(payload.try_get_i64().ok()?),
        version: payload.try_get_i64().ok()?,
        lease: LeaseId(payload.try_get_i64().ok()?),
    })
}

fn write_version(version: &Version, out: &mut BytesMut) {
    out.put_i64(version.main.0);
    out.put_u32(version.sub);
    out.put_u32(version.size);
    out.put_i64(version.create.0);
    out.put_i64(version.version);
    out.put_i64(version.lease.0);
}

impl Index {
    /// Writes keys from `from` on, as they were at `last`, and returns where to go on.
    pub(crate) fn save(
        &self,
        (from, keys_max): (&[u8], usize),
        last: Revision,
        out: &mut BytesMut,
    ) -> Option<Bytes> {
        let keys = self.keys.range(Bound::Included(from), Bound::Unbounded);
        for (number, (key, entry)) in keys.enumerate() {
            if number == keys_max || out.len() >= PIECE_BYTES_MAX {
                return Some(key.clone());
            }
            let known = entry.older.partition_point(|version| version.main <= last);
            let newest = Some(&entry.newest).filter(|newest| newest.version.main <= last);
            let rows = known + usize::from(newest.is_some());
            if rows == 0 {
                continue;
            }
            out.put_u32(u32::try_from(key.len()).expect("a key is smaller than a request"));
            out.put_slice(key);
            out.put_u128(newest.map_or(NOT_NEWEST, |newest| newest.element));
            out.put_u32(u32::try_from(rows).expect("a key has fewer than 2^32 rows"));
            let older = entry.older.iter().take(known);
            older.chain(newest.map(|newest| &newest.version)).for_each(|row| write_version(row, out));
        }
        None
    }

    /// Adds a key behind all others, with all its rows.
    fn restore(&mut self, key: Bytes, entry: KeyEntry) {
        let newest = &entry.newest.version;
        self.size.keys += 1;
        self.size.key_bytes += key.len();
        self.size.rows += entry.older.len() + 1;
        self.bytes.all += entry.older.iter().chain([newest]).map(Version::size).sum::<u64>();
        self.bytes.live += newest.live_bytes();
        self.newest = self.newest.max(newest.main);
        self.keys.insert(key, entry);
    }

    /// Returns every key that exists now with its newest row and the hash of it.
    pub(crate) fn elements(&self) -> impl Iterator<Item = (&Bytes, &Version, u128)> {
        let living = self.keys.iter().filter(|(_, entry)| entry.newest.version.is_alive());
        living.map(|(key, entry)| (key, &entry.newest.version, entry.newest.element))
    }

    /// Returns whether rows are missing that the others speak of: the newest of a key that changed while the file was written, or the
    /// tombstone of a key that was made again. They were behind the mark and have been collected.
    pub(crate) fn misses_rows(&self) -> bool {
        self.keys.iter().any(|(_, entry)| {
            let rows = || entry.older.iter().chain([&entry.newest.version]);
            let is_made_again = |(row, next): (&Version, &Version)| {
                row.is_alive() && next.is_alive() && next.create > row.main
            };
            entry.newest.element == NOT_NEWEST || rows().zip(rows().skip(1)).any(is_made_again)
        })
    }

    /// Drops what a compaction has removed from the engine already.
    pub(crate) fn forget(&mut self, compacted: Revision) {
        let may_go = |entry: &KeyEntry| !entry.older.is_empty() || !entry.newest.version.is_alive();
        let keys: Vec<Bytes> =
            self.keys.iter().filter(|(_, entry)| may_go(entry)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            let _removed = self.collect(&key, compacted, RowId::first_of(compacted));
        }
    }
}
