//! Reads: which rows answer a range is decided from the index alone; their values are fetched last.

use std::cmp::Reverse;

use bytes::Bytes;

use super::index::Version;
use super::store::Store;
use super::{KeyValue, LeaseId, Range, RangeResult, Refusal, Revision, RowId, SortOrder, SortTarget};
use crate::engine::EngineError;

/// A row that answers a range, perhaps with its bytes.
#[derive(Clone, Debug)]
struct Pick {
    key: Bytes,
    version: Version,
}

impl Pick {
    /// The answer without value. A lease is not reported then, as in etcd 3.7.
    fn key_only(self) -> KeyValue {
        KeyValue {
            key: self.key,
            value: Bytes::new(),
            create_revision: self.version.create,
            mod_revision: self.version.main,
            version: self.version.version,
            lease: LeaseId::NONE,
        }
    }
}

/// An answer, unless it takes more memory than was allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bounded<T> {
    Whole(T),
    /// Nothing was read; the answer takes about this many bytes.
    Exceeds {
        needed: u64,
    },
}

/// The rows that answer a range, in key order.
struct Picked {
    /// None when they would take more memory than was allowed.
    picks: Vec<Pick>,
    /// All keys in the range at that revision.
    count: usize,
    weight: Weight,
}

impl Store {
    /// Reads a range of the committed state.
    ///
    /// # Errors
    /// The outer error is the engine's, the inner one the store's answer.
    pub fn range(&self, range: &Range) -> Result<Result<RangeResult, Refusal>, EngineError> {
        if let Err(refusal) = self.check_readable(range.revision) {
            return Ok(Err(refusal));
        }
        self.read_range(range, self.state.revision).map(Ok)
    }

    /// Reads a range if the answer takes at most `allowed` bytes of memory; otherwise no value is touched.
    ///
    /// # Errors
    /// As [`Store::range`].
    pub fn range_within(
        &self,
        range: &Range,
        allowed: u64,
    ) -> Result<Result<Bounded<RangeResult>, Refusal>, EngineError> {
        if let Err(refusal) = self.check_readable(range.revision) {
            return Ok(Err(refusal));
        }
        let picked = self.pick(range, allowed);
        let needed = picked.weight.bytes();
        if needed > allowed {
            return Ok(Ok(Bounded::Exceeds { needed }));
        }
        self.answer(range, picked, self.state.revision).map(|answer| Ok(Bounded::Whole(answer)))
    }

    /// Returns about how much memory the answer to a range takes.
    pub(super) fn range_bytes(&self, range: &Range) -> u64 {
        self.pick(range, 0).weight.bytes()
    }

    /// Refuses revisions that are compacted or not yet there.
    pub(super) fn check_readable(&self, revision: Option<Revision>) -> Result<(), Refusal> {
        let Some(requested) = revision else { return Ok(()) };
        if requested > self.state.revision {
            return Err(Refusal::FutureRevision { requested, current: self.state.revision });
        }
        if requested < self.state.compacted {
            return Err(Refusal::Compacted { requested, compacted: self.state.compacted });
        }
        Ok(())
    }

    /// Reads a range whose revision was checked; `seen` is the revision that the answer reports.
    pub(super) fn read_range(&self, range: &Range, seen: Revision) -> Result<RangeResult, EngineError> {
        self.answer(range, self.pick(range, u64::MAX), seen)
    }

    fn pick(&self, range: &Range, allowed: u64) -> Picked {
        let at = range.revision.unwrap_or(Revision(i64::MAX));
        let filtered = Bounds::of(range);
        let take = take_of(range, &filtered);
        let wanted = if range.count_only { 0 } else { take };
        let is_newest = at >= self.index.newest();
        let count =
            if is_newest { self.index.count(&range.range) } else { self.index.count_at(&range.range, at) };
        let found = self.index.range(&range.range).filter_map(|(key, entry)| Some((key, entry.at(at)?)));
        let (mut picks, mut weight) = (Vec::new(), Weight::of(range));
        for (key, version) in found.filter(|(_, version)| filtered.contain(version)).take(wanted) {
            weight.add(key, version);
            if weight.bytes() <= allowed {
                picks.push(Pick { key: key.clone(), version: *version });
            } else {
                picks = Vec::new();
            }
        }
        Picked { picks, count, weight }
    }

    fn answer(&self, range: &Range, picked: Picked, seen: Revision) -> Result<RangeResult, EngineError> {
        let Picked { mut picks, count, weight: _ } = picked;
        let is_cut = take_of(range, &Bounds::of(range)) != usize::MAX;
        let total = if is_cut { count } else { picks.len() };
        self.sort(range, &mut picks)?;
        picks.truncate(limit_of(range));
        Ok(RangeResult {
            more: !range.count_only && picks.len() < total,
            kvs: self.fetch(range, picks)?,
            count: u64::try_from(count).expect("a count of keys fits 64 bits"),
            revision: seen,
        })
    }

    /// Sorts by the wanted field. Keys with equal fields stay in key order, whatever the direction.
    fn sort(&self, range: &Range, picks: &mut Vec<Pick>) -> Result<(), EngineError> {
        let descend = range.sort_order == SortOrder::Descend;
        match range.sort_target {
            SortTarget::Key if descend => picks.reverse(),
            SortTarget::Key => {}
            SortTarget::Version => sort_picks(picks, descend, |pick| pick.version.version),
            SortTarget::CreateRevision => sort_picks(picks, descend, |pick| pick.version.create.0),
            SortTarget::ModRevision => sort_picks(picks, descend, |pick| pick.version.main.0),
            SortTarget::Value => {
                let mut valued = Vec::with_capacity(picks.len());
                for pick in picks.drain(..) {
                    valued.push((self.read_row(&pick.key, pick.version.row())?.value, pick));
                }
                sort_picks(&mut valued, descend, |(value, _)| value.clone());
                picks.extend(valued.into_iter().map(|(_, pick)| pick));
            }
        }
        Ok(())
    }

    fn fetch(&self, range: &Range, picks: Vec<Pick>) -> Result<Vec<KeyValue>, EngineError> {
        if range.keys_only {
            return Ok(picks.into_iter().map(Pick::key_only).collect());
        }
        picks.into_iter().map(|pick| self.read_row(&pick.key, pick.version.row())).collect()
    }

    /// Returns the row before `row` of the same key, unless the key did not exist then or the row is compacted.
    pub(crate) fn row_before(&self, key: &[u8], row: RowId) -> Result<Option<KeyValue>, EngineError> {
        let previous = self.index.entry(key).and_then(|entry| {
            entry.before(row).filter(|version| entry.survives(version.row(), self.state.compacted))
        });
        previous.map(|version| self.read_row(key, version.row())).transpose()
    }
}

fn sort_picks<T, K: Ord>(picks: &mut [T], descend: bool, key: impl Fn(&T) -> K) {
    if descend {
        picks.sort_by_key(|pick| Reverse(key(pick)));
    } else {
        picks.sort_by_key(key);
    }
}

fn limit_of(range: &Range) -> usize {
    match range.limit {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    }
}

/// Returns how many rows are looked at: sorting and filtering need all of them, otherwise as many as are returned do.
fn take_of(range: &Range, filtered: &Bounds) -> usize {
    let in_order = range.sort_order == SortOrder::None && range.sort_target == SortTarget::Key;
    if in_order && filtered.is_open() { limit_of(range) } else { usize::MAX }
}

/// What an answer takes in memory, as far as the index tells: bytes of keys and values count twice, as rows and as the message
/// that goes out.
struct Weight {
    limit: u64,
    keys_only: bool,
    sorts_values: bool,
    /// For as long as rows are sorted.
    kept: u64,
    answered: u64,
    largest: u64,
}

/// What a row takes beside the bytes of key and value: as a pick, in the answer and in the message.
const PICK_BYTES: u64 = 96;
const ANSWER_BYTES: u64 = 256;

impl Weight {
    fn of(range: &Range) -> Self {
        Self {
            limit: if range.limit == 0 { u64::MAX } else { range.limit },
            keys_only: range.keys_only,
            sorts_values: range.sort_target == SortTarget::Value,
            kept: 0,
            answered: 0,
            largest: 0,
        }
    }

    fn add(&mut self, key: &Bytes, version: &Version) {
        let key_bytes = u64::try_from(key.len()).unwrap_or(u64::MAX);
        let row = ANSWER_BYTES + 2 * if self.keys_only { key_bytes } else { version.size() };
        self.kept += PICK_BYTES + if self.sorts_values { version.size() } else { 0 };
        self.answered += row;
        self.largest = self.largest.max(row);
    }

    /// Never less for more rows.
    fn bytes(&self) -> u64 {
        self.kept + self.answered.min(self.limit.saturating_mul(self.largest))
    }
}

/// Inclusive bounds on the revisions of a row; 0 switches one off.
struct Bounds {
    modified: (i64, i64),
    created: (i64, i64),
}

impl Bounds {
    fn of(range: &Range) -> Self {
        let open_end = |max: i64| if max == 0 { i64::MAX } else { max };
        Self {
            modified: (range.min_mod_revision, open_end(range.max_mod_revision)),
            created: (range.min_create_revision, open_end(range.max_create_revision)),
        }
    }

    fn is_open(&self) -> bool {
        [self.modified, self.created].iter().all(|&bounds| bounds == (0, i64::MAX))
    }

    fn contain(&self, version: &Version) -> bool {
        let within = |(min, max): (i64, i64), revision: Revision| min <= revision.0 && revision.0 <= max;
        within(self.modified, version.main) && within(self.created, version.create)
    }
}
