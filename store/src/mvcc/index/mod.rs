//! The key index: which rows each key has, in key order, in memory.
//!
//! It answers existence, compares on numbers, counts and historic lookups without touching the engine, and keeps the newest
//! rows of hot keys under a byte budget. It is rebuilt from the rows when a store is opened; `rebuilt == live` is tested.
//!
//! A key stays here with its tombstone until compaction collects it. Counts walk the range (subtree counts are to come).

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::{KeyRange, LeaseId, RangeEnd, Revision, RowId};

/// One row of a key, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) row: RowId,
    pub(crate) create: Revision,
    /// Counted from 1 within a generation; 0 marks a tombstone.
    pub(crate) version: i64,
    pub(crate) lease: LeaseId,
}

impl Version {
    pub(crate) fn is_alive(&self) -> bool {
        self.version > 0
    }
}

/// All rows of one key that are not collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyEntry {
    newest: Version,
    /// Hash of the newest row, for the state digest.
    element: u128,
    /// Oldest first, all older than `newest`.
    older: Vec<Version>,
    /// The newest row as stored, when it lives and fits the budget.
    cached: Option<Bytes>,
}

impl KeyEntry {
    /// Returns the newest row if the key exists now.
    pub(crate) fn live(&self) -> Option<&Version> {
        self.newest.is_alive().then_some(&self.newest)
    }

    /// Returns the row that held at `revision`, if the key existed then.
    pub(crate) fn at(&self, revision: Revision) -> Option<&Version> {
        self.held_at(revision).filter(|version| version.is_alive())
    }

    /// Returns the row before `row`, if the key existed then and the row is not collected.
    pub(crate) fn before(&self, row: RowId) -> Option<&Version> {
        let previous = if self.newest.row < row {
            &self.newest
        } else {
            let after = self.older.partition_point(|version| version.row < row);
            self.older.get(after.checked_sub(1)?)?
        };
        previous.is_alive().then_some(previous)
    }

    /// Returns the stored bytes of `row` if they are cached.
    pub(crate) fn cached(&self, row: RowId) -> Option<&Bytes> {
        self.cached.as_ref().filter(|_| self.newest.row == row)
    }

    /// Returns whether a compaction at `compacted` keeps `row`: it is newer, or it held then, or it is a tombstone at just
    /// that revision (a watch from there must see it).
    pub(crate) fn survives(&self, row: RowId, compacted: Revision) -> bool {
        row.main > compacted
            || self.held_at(compacted).is_some_and(|held| held.row == row && outlives(held, compacted))
    }

    /// Returns the newest row up to `revision`, tombstones included.
    fn held_at(&self, revision: Revision) -> Option<&Version> {
        if self.newest.row.main <= revision {
            return Some(&self.newest);
        }
        let after = self.older.partition_point(|version| version.row.main <= revision);
        self.older.get(after.checked_sub(1)?)
    }
}

/// Whether a compaction at `compacted` keeps the row that held then.
fn outlives(held: &Version, compacted: Revision) -> bool {
    held.is_alive() || held.row.main == compacted
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
    keys: BTreeMap<Bytes, KeyEntry>,
    cached_bytes: usize,
}

/// Most bytes of newest rows kept in memory. A control plane of a few thousand nodes fits; beyond it, reads go to the engine.
const CACHE_BYTES_MAX: usize = 256 << 20;

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
    pub(crate) fn range(&self, range: &KeyRange) -> impl Iterator<Item = (&Bytes, &KeyEntry)> {
        let start = Bound::Included(range.start.as_ref());
        let end = match &range.end {
            RangeEnd::Single => Bound::Included(range.start.as_ref()),
            // An end at or below the start is an empty range, which the map would not accept as bounds.
            RangeEnd::Before(end) if end <= &range.start => Bound::Excluded(range.start.as_ref()),
            RangeEnd::Before(end) => Bound::Excluded(end.as_ref()),
            RangeEnd::Unbounded => Bound::Unbounded,
        };
        self.keys.range::<[u8], _>((start, end))
    }

    /// Adds the newest row of a key and returns the hash of the row that it hides, if that one was alive.
    pub(crate) fn push(&mut self, key: &Bytes, row: NewRow) -> Option<u128> {
        let fits = self.cached_bytes + row.stored.len() <= CACHE_BYTES_MAX;
        let cached = (row.version.is_alive() && fits).then_some(row.stored);
        self.cached_bytes += cached.as_ref().map_or(0, Bytes::len);
        let Some(entry) = self.keys.get_mut(key) else {
            let entry = KeyEntry { newest: row.version, element: row.element, older: Vec::new(), cached };
            // The key is copied: the caller's bytes may be a slice of a whole request.
            self.keys.insert(Bytes::copy_from_slice(key), entry);
            return None;
        };
        assert!(entry.newest.row < row.version.row, "rows of a key are added in revision order");
        let hidden = entry.live().map(|_| entry.element);
        entry.older.push(entry.newest);
        entry.newest = row.version;
        entry.element = row.element;
        self.cached_bytes -= std::mem::replace(&mut entry.cached, cached).map_or(0, |old| old.len());
        hidden
    }

    /// Drops the rows of a key that a compaction at `compacted` does not keep, and returns them.
    pub(crate) fn collect(&mut self, key: &[u8], compacted: Revision) -> Vec<RowId> {
        let Some(entry) = self.keys.get_mut(key) else {
            return Vec::new();
        };
        if entry.newest.row.main <= compacted {
            let mut dropped: Vec<RowId> = entry.older.drain(..).map(|version| version.row).collect();
            if !outlives(&entry.newest, compacted) {
                // Only a tombstone can be the newest row and go, so nothing is cached here.
                dropped.push(entry.newest.row);
                self.keys.remove(key);
            }
            return dropped;
        }
        let held_count = entry.older.partition_point(|version| version.row.main <= compacted);
        let held = held_count.checked_sub(1).and_then(|last| entry.older.get(last));
        let kept = usize::from(held.is_some_and(|held| outlives(held, compacted)));
        entry.older.drain(..held_count - kept).map(|version| version.row).collect()
    }

    /// Returns all keys, for comparison with a rebuilt index.
    #[cfg(test)]
    pub(crate) fn keys(&self) -> &BTreeMap<Bytes, KeyEntry> {
        &self.keys
    }
}
