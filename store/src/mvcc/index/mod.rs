//! The key index: which rows each key has, in key order, in memory.
//!
//! It answers existence, compares on numbers, counts and historic lookups without touching the engine, and keeps the newest
//! rows of hot keys under a byte budget. It is rebuilt from the rows when a store is opened; `rebuilt == live` is tested.
//!
//! A key stays here with its tombstone until compaction collects it. [`tree`] counts the keys of a range that exist now without
//! walking them; for how many existed at an earlier revision it walks the leaves that have changed since, and no others.

pub(super) mod saved;
mod sorted;
mod tree;

use std::collections::VecDeque;
use std::ops::Bound;

use bytes::Bytes;
use tree::{Counted, PLACE_BYTES, Tree};

use super::row::ROW_KEY_BYTES;
use super::{KeyRange, KeyValue, LeaseId, RangeEnd, Revision, RowId};

/// One row of a key, without its value. There is one for every row of the store, so it is kept small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) main: Revision,
    sub: u32,
    /// Bytes of key and value in the engine.
    size: u32,
    pub(crate) create: Revision,
    /// Counted from 1 within a generation; 0 marks a tombstone.
    pub(crate) version: i64,
    pub(crate) lease: LeaseId,
}

impl Version {
    /// Returns the version that a stored row is; `stored_len` is the length of its value in the engine.
    pub(crate) fn of(id: RowId, kv: &KeyValue, stored_len: usize) -> Self {
        let size = u32::try_from(stored_len + ROW_KEY_BYTES).expect("a row is smaller than a request");
        Self {
            main: id.main,
            sub: id.sub,
            size,
            create: kv.create_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }

    pub(crate) fn row(&self) -> RowId {
        RowId { main: self.main, sub: self.sub }
    }

    /// Returns what the row takes in the engine.
    pub(crate) fn size(&self) -> u64 {
        u64::from(self.size)
    }

    fn live_bytes(&self) -> u64 {
        if self.is_alive() { u64::from(self.size) } else { 0 }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.version > 0
    }
}

/// All rows of one key that are not collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyEntry {
    newest: Newest,
    /// Oldest first, all older than `newest`. A key may have millions, and a collection takes them off the front a few at a time.
    older: VecDeque<Version>,
}

/// The newest row of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Newest {
    version: Version,
    /// Hash of the row, for the state digest.
    element: u128,
    /// The row as stored, when it lives and fits the budget.
    cached: Option<Bytes>,
}

impl Counted for KeyEntry {
    /// Keys that exist now count.
    fn counts(&self) -> bool {
        self.newest.version.is_alive()
    }

    fn changed(&self) -> i64 {
        self.newest.version.main.0
    }
}

impl KeyEntry {
    /// Returns the newest row if the key exists now.
    pub(crate) fn live(&self) -> Option<&Version> {
        Some(&self.newest.version).filter(|newest| newest.is_alive())
    }

    /// Returns the row that held at `revision`, if the key existed then.
    pub(crate) fn at(&self, revision: Revision) -> Option<&Version> {
        self.held_at(revision).filter(|version| version.is_alive())
    }

    /// Returns the row before `row`, if the key existed then and the row is not collected.
    pub(crate) fn before(&self, row: RowId) -> Option<&Version> {
        let previous = if self.newest.version.row() < row {
            &self.newest.version
        } else {
            let after = self.older.partition_point(|version| version.row() < row);
            self.older.get(after.checked_sub(1)?)?
        };
        previous.is_alive().then_some(previous)
    }

    /// Returns the stored bytes of `row` if they are cached.
    pub(crate) fn cached(&self, row: RowId) -> Option<&Bytes> {
        self.newest.cached.as_ref().filter(|_| self.newest.version.row() == row)
    }

    /// Returns whether a compaction at `compacted` keeps `row`: it is of that revision or newer, for a watch from there sees the whole
    /// revision; or it held then.
    pub(crate) fn survives(&self, row: RowId, compacted: Revision) -> bool {
        row.main >= compacted || self.at(compacted).is_some_and(|held| held.row() == row)
    }

    /// Returns all that is known of a key, but for what is cached.
    #[cfg(test)]
    pub(crate) fn rows(&self) -> (Vec<Version>, u128) {
        (self.older.iter().copied().chain([self.newest.version]).collect(), self.newest.element)
    }

    /// Puts a row above all others and returns the one that it hides.
    fn push(&mut self, newest: Newest) -> Newest {
        let hidden = &self.newest.version;
        assert!(hidden.row() < newest.version.row(), "rows of a key are added in revision order");
        if self.older.is_empty() {
            // Most keys have one row here or none; growing by itself makes room for four.
            self.older.reserve_exact(1);
        }
        self.older.push_back(*hidden);
        std::mem::replace(&mut self.newest, newest)
    }

    /// Drops the rows up to `last`, but never the newest, that a compaction at `compacted` does not keep.
    fn drop_older(&mut self, compacted: Revision, last: RowId) -> Vec<Version> {
        let past = self.older.partition_point(|version| version.main < compacted);
        let next = self.older.get(past).unwrap_or(&self.newest.version).main;
        // What held then is the last row of the past, unless the revision itself or nothing else has a row.
        let is_held = next > compacted && self.at(compacted).is_some();
        let due = self.older.partition_point(|version| version.row() <= last);
        let dropped = self.older.drain(..due.min(past - usize::from(is_held))).collect();
        if self.older.len() * SPARE_ROOM < self.older.capacity() {
            self.older.shrink_to_fit();
        }
        dropped
    }

    /// Returns the newest row up to `revision`, tombstones included.
    fn held_at(&self, revision: Revision) -> Option<&Version> {
        if self.newest.version.main <= revision {
            return Some(&self.newest.version);
        }
        let after = self.older.partition_point(|version| version.main <= revision);
        self.older.get(after.checked_sub(1)?)
    }
}

/// A new row for [`Index::push`].
#[derive(Clone, Debug)]
pub(crate) struct NewRow {
    pub(crate) version: Version,
    /// Hash of the stored bytes.
    pub(crate) element: u128,
    /// The stored bytes.
    pub(crate) stored: Bytes,
}

/// Rows by key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    keys: Tree<KeyEntry>,
    /// Revision of the newest row.
    newest: Revision,
    cached_bytes: usize,
    bytes: RowBytes,
    size: Size,
    /// Rows that were added one at a time: all but those that came from a saved index.
    pushed: u64,
}

/// What the index holds, deleted keys included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    keys: usize,
    key_bytes: usize,
    rows: usize,
}

/// What rows take in the engine, keys included; not on disk, where they are compressed and old ones linger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowBytes {
    /// All rows that are not collected: what exists now and its history.
    pub all: u64,
    /// Rows of keys that exist now.
    pub live: u64,
}

impl RowBytes {
    fn add(&mut self, version: &Version) {
        self.all += u64::from(version.size);
        self.live += version.live_bytes();
    }
}

/// Rows of one key that were dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    pub(crate) rows: Vec<RowId>,
    /// The last of them, if the key was deleted by it.
    pub(crate) deletion: Option<RowId>,
}

/// Most bytes of newest rows kept in memory. A control plane of a few thousand nodes fits; beyond it, reads go to the engine.
const CACHE_BYTES_MAX: usize = 256 << 20;
/// The room for the rows of a key is given back when it is this many times what they take.
const SPARE_ROOM: usize = 4;

impl Index {
    /// Returns what is known of a key, deleted ones included.
    pub(crate) fn entry(&self, key: &[u8]) -> Option<&KeyEntry> {
        self.keys.get(key)
    }

    /// Returns the newest row of a key that exists now.
    pub(crate) fn live(&self, key: &[u8]) -> Option<&Version> {
        self.entry(key)?.live()
    }

    /// Returns the keys of a range in order, deleted ones included.
    pub(crate) fn range<'a>(
        &'a self,
        range: &'a KeyRange,
    ) -> impl Iterator<Item = (&'a Bytes, &'a KeyEntry)> {
        let end = match &range.end {
            RangeEnd::Single => Bound::Included(range.start.as_ref()),
            RangeEnd::Before(end) => Bound::Excluded(end.as_ref()),
            RangeEnd::Unbounded => Bound::Unbounded,
        };
        self.keys.range(Bound::Included(range.start.as_ref()), end)
    }

    /// Returns how many keys of a range exist now, without walking it.
    pub(crate) fn count(&self, range: &KeyRange) -> usize {
        match &range.end {
            RangeEnd::Single => usize::from(self.live(&range.start).is_some()),
            RangeEnd::Before(end) => {
                let before_end = self.keys.counted_before(end);
                before_end.saturating_sub(self.keys.counted_before(&range.start))
            }
            RangeEnd::Unbounded => self.keys.counted() - self.keys.counted_before(&range.start),
        }
    }

    /// Returns how many keys of a range existed at `revision`. Walks only parts of the tree that have changed since.
    pub(crate) fn count_at(&self, range: &KeyRange, revision: Revision) -> usize {
        let start = range.start.as_ref();
        let end = match &range.end {
            RangeEnd::Single => Bound::Included(start),
            RangeEnd::Before(end) => Bound::Excluded(end.as_ref()),
            RangeEnd::Unbounded => Bound::Unbounded,
        };
        self.keys.counted_at(start, end, revision.0, &|entry| entry.at(revision).is_some())
    }

    /// Returns the revision of the newest row; a read at it or later reads what is there now.
    pub(crate) fn newest(&self) -> Revision {
        self.newest
    }

    /// Returns what all rows take.
    pub(crate) fn bytes(&self) -> RowBytes {
        self.bytes
    }

    /// Returns about how much memory the index takes, without cached values.
    pub(crate) fn memory_bytes(&self) -> usize {
        let Size { keys, key_bytes, rows } = self.size;
        // Entries have boxes of their own; their places in the leaves are about three quarters full.
        let entries = keys * (size_of::<(Bytes, KeyEntry)>() + PLACE_BYTES * 4 / 3);
        entries + key_bytes + (rows - keys) * size_of::<Version>()
    }

    /// Adds the newest row of a key and returns the hash of the row that it hides, if that one was alive.
    pub(crate) fn push(&mut self, key: &Bytes, row: NewRow) -> Option<u128> {
        self.bytes.add(&row.version);
        self.size.rows += 1;
        self.pushed += 1;
        let fits = self.cached_bytes + row.stored.len() <= CACHE_BYTES_MAX;
        let NewRow { version, element, stored } = row;
        let cached = (version.is_alive() && fits).then_some(stored);
        self.cached_bytes += cached.as_ref().map_or(0, Bytes::len);
        self.newest = self.newest.max(version.main);
        let newest = Newest { version, element, cached };
        let Some(old) = self.keys.update(key, |entry| entry.push(newest.clone())) else {
            let entry = KeyEntry { newest, older: VecDeque::new() };
            self.size.keys += 1;
            self.size.key_bytes += key.len();
            // The key is copied: the caller's bytes may be a slice of a whole request.
            self.keys.insert(Bytes::copy_from_slice(key), entry);
            return None;
        };
        self.bytes.live -= old.version.live_bytes();
        self.cached_bytes -= old.cached.map_or(0, |cached| cached.len());
        old.version.is_alive().then_some(old.element)
    }

    /// Drops the rows of a key up to `last` that a compaction at `compacted` does not keep, and returns them in order.
    pub(crate) fn collect(&mut self, key: &[u8], compacted: Revision, last: RowId) -> Collected {
        let Some((mut dropped, newest)) =
            self.keys.update(key, |entry| (entry.drop_older(compacted, last), entry.newest.version))
        else {
            return Collected::default();
        };
        if newest.main < compacted && !newest.is_alive() && newest.row() <= last {
            // Only a tombstone can be the newest row and go, so nothing is cached here.
            dropped.push(newest);
            self.keys.remove(key);
            self.size.keys -= 1;
            self.size.key_bytes -= key.len();
        }
        self.size.rows -= dropped.len();
        // None of them was the newest of a living key, so what lives takes as much as before.
        self.bytes.all -= dropped.iter().map(|version| u64::from(version.size)).sum::<u64>();
        let deletion = dropped.last().filter(|last| !last.is_alive()).map(Version::row);
        Collected { rows: dropped.iter().map(Version::row).collect(), deletion }
    }

    /// Returns how many rows there are.
    pub(crate) fn row_count(&self) -> usize {
        self.size.rows
    }

    /// Returns how many rows were added that no saved index had.
    pub(crate) fn pushed(&self) -> u64 {
        self.pushed
    }

    /// Returns all keys, for comparison with a rebuilt index.
    #[cfg(test)]
    pub(crate) fn keys(&self) -> &Tree<KeyEntry> {
        &self.keys
    }
}
