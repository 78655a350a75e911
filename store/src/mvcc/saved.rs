//! Saving the index, and opening a store with a saved one.

use std::io::Read;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::index::Index;
use super::index::saved::{Mark, Reader, SavedIndexError};
use super::meta::{self, StateRecord};
use super::store::Store;
use super::{LeaseId, RowId};
use crate::engine::{Engine, EngineError};

impl Store {
    /// Opens the state in `engine` with a saved index: only rows behind it are read.
    ///
    /// # Errors
    /// The outer error is the engine's. The inner one says why the saved index does not fit; [`Store::open`] does without.
    pub fn open_saved(
        engine: Arc<dyn Engine>,
        saved: &mut dyn Read,
    ) -> Result<Result<Self, SavedIndexError>, EngineError> {
        let stored = engine.get(&meta::state_key())?.map(StateRecord::decode).transpose()?;
        let Some((state, digest)) = stored else { return Ok(Err(SavedIndexError::NoState)) };
        let (mark, index) = match read(saved, &state) {
            Ok(read) => read,
            Err(error) => return Ok(Err(error)),
        };
        let mut store = Self::with_records(engine, state)?;
        for (key, newest, hash) in index.elements() {
            store.leases.attach(key, LeaseId::NONE, newest.lease);
            store.set_hash.add(hash);
        }
        store.index = index;
        store.load_rows(&RowId::first_of(mark.revision.next()).to_key())?;
        if mark.compacted < state.compacted {
            store.index.forget(state.compacted);
        }
        // A key that was deleted and collected since leaves no row that says so. The digest knows what exists now, not what was before.
        if store.digest() == digest && !store.index.misses_rows() {
            return Ok(Ok(store));
        }
        Ok(Err(if mark.compacted < state.compacted {
            SavedIndexError::Outdated(state.compacted)
        } else {
            SavedIndexError::Digest
        }))
    }

    /// Returns what a saved index of now would show; `None` while rows are being removed.
    pub(crate) fn index_mark(&self) -> Option<Mark> {
        let mark = Mark { revision: self.state.revision, compacted: self.state.compacted };
        (self.state.collected == self.state.compacted).then_some(mark)
    }

    /// Writes some keys from `from` on, as of `mark`, and returns where to go on. The outer result is `None` once a compaction has
    /// come since the mark: what is written by then is of no use.
    pub(crate) fn save_keys(
        &self,
        mark: Mark,
        (from, keys_max): (&[u8], usize),
        out: &mut BytesMut,
    ) -> Option<Option<Bytes>> {
        (self.state.compacted == mark.compacted)
            .then(|| self.index.save((from, keys_max), mark.revision, out))
    }

    /// Returns about how much memory the index takes, without cached values.
    #[must_use]
    pub fn index_bytes(&self) -> u64 {
        u64::try_from(self.index.memory_bytes()).unwrap_or(u64::MAX)
    }

    /// Returns how many rows are not collected.
    pub(crate) fn row_count(&self) -> usize {
        self.index.row_count()
    }
}

fn read(saved: &mut dyn Read, state: &StateRecord) -> Result<(Mark, Index), SavedIndexError> {
    let (reader, mark) = Reader::begin(saved)?;
    if mark.revision > state.revision || mark.compacted > state.compacted {
        return Err(SavedIndexError::Ahead { saved: mark.revision, stored: state.revision });
    }
    // Rows that a pass has removed so far are in the saved index, and rows that it has not must not be forgotten.
    if state.collected != state.compacted {
        return Err(SavedIndexError::Collecting);
    }
    Ok((mark, reader.into_index(mark)?))
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::super::index::saved::{KEYS_MAX, Writer};
    use super::*;
    use crate::engine::MemoryEngine;
    use crate::mvcc::{Collection, Command, DeleteRange, KeyRange, Op, Put, Revision, Txn};

    struct Fixture {
        engine: MemoryEngine,
        store: Store,
        rng: SmallRng,
    }

    impl Fixture {
        fn new(seed: u64) -> Self {
            let engine = MemoryEngine::new();
            let store = Store::open(Arc::new(engine.clone())).unwrap();
            let mut fixture = Self { engine, store, rng: SmallRng::seed_from_u64(seed) };
            fixture.apply(&Command::LeaseGrant { id: LeaseId(7), ttl_seconds: 60 });
            fixture
        }

        fn apply(&mut self, command: &Command) {
            let _answer = self.store.apply(command).unwrap();
            self.store.commit().unwrap();
        }

        fn write(&mut self, times: usize) {
            for _ in 0..times {
                let key: Bytes = format!("key{:02}", self.rng.random_range(0..40)).into();
                let op = if self.rng.random_ratio(1, 3) {
                    Op::DeleteRange(DeleteRange { range: KeyRange::single(key), prev_kv: false })
                } else {
                    let lease = LeaseId(if self.rng.random_ratio(1, 4) { 7 } else { 0 });
                    Op::Put(Put { key, value: "v".into(), lease, ..Put::default() })
                };
                self.apply(&Command::Txn(Txn::of(op)));
            }
        }

        fn put(&mut self, key: &'static str) {
            self.apply(&Command::Txn(Txn::of(Op::Put(Put { key: key.into(), ..Put::default() }))));
        }

        fn delete(&mut self, key: &'static str) {
            let range = KeyRange::single(key);
            self.apply(&Command::Txn(Txn::of(Op::DeleteRange(DeleteRange { range, prev_kv: false }))));
        }

        fn compact(&mut self) {
            let revision = Revision(self.rng.random_range(1..=self.store.current_revision().0));
            self.apply(&Command::Compact { revision });
        }

        fn collect(&mut self) {
            let mut collection = Collection::MoreToDo;
            while collection == Collection::MoreToDo {
                collection = self.store.collect(3).unwrap();
                self.store.commit().unwrap();
            }
        }

        /// Saves the index a few keys at a time, with writes in between; `None` when a compaction came.
        fn save(&mut self, keys_max: usize, writes_max: usize) -> Option<Vec<u8>> {
            let mark = self.store.index_mark()?;
            self.save_as_of(mark, keys_max, writes_max)
        }

        fn save_as_of(&mut self, mark: Mark, keys_max: usize, writes_max: usize) -> Option<Vec<u8>> {
            let mut file = Vec::new();
            let mut writer = Writer::begin(&mut file, mark).unwrap();
            let mut from = Some(Bytes::new());
            while let Some(start) = from {
                let mut piece = BytesMut::new();
                from = self.store.save_keys(mark, (&start, keys_max), &mut piece)?;
                writer.keys(&piece).unwrap();
                let writes = self.rng.random_range(0..=writes_max);
                self.write(writes);
                if writes_max > 0 && self.rng.random_ratio(1, 40) {
                    self.compact();
                }
            }
            writer.end().unwrap();
            Some(file)
        }

        fn open_saved(&self, mut file: &[u8]) -> Result<Store, SavedIndexError> {
            Store::open_saved(Arc::new(self.engine.clone()), &mut file).unwrap()
        }

        /// Whether a key that the file shows was deleted since.
        fn has_deleted(&self, mut file: &[u8]) -> bool {
            let (reader, mark) = Reader::begin(&mut file).unwrap();
            let shown = reader.into_index(mark).unwrap();
            shown.elements().any(|(key, shown, _)| {
                self.store.index.live(key).is_none_or(|newest| newest.create > shown.main)
            })
        }

        /// A store opened with a saved index is the one that all rows give, but for what is cached.
        fn check_saved(&self, file: &[u8]) -> Result<(), SavedIndexError> {
            let saved = self.open_saved(file)?;
            let rows = Store::open(Arc::new(self.engine.clone())).unwrap();
            let entries = |store: &Store| -> Vec<_> {
                store.index.keys().iter().map(|(key, entry)| (key.clone(), entry.rows())).collect()
            };
            assert_eq!(entries(&saved), entries(&rows));
            assert_eq!(saved.leases, rows.leases);
            assert_eq!(saved.row_bytes(), rows.row_bytes());
            assert_eq!(saved.index_bytes(), rows.index_bytes());
            assert_eq!(saved.digest(), rows.digest());
            Ok(())
        }
    }

    #[test]
    fn a_saved_index_gives_the_store_that_all_rows_give() {
        let (mut used, mut used_after_compaction, mut outdated, mut dropped) = (0, 0, 0, 0);
        for seed in 0..200 {
            let mut fixture = Fixture::new(seed);
            fixture.write(100);
            if seed % 2 == 0 {
                fixture.compact();
                fixture.collect();
                fixture.write(50);
            }
            let Some(file) = fixture.save(3, 6) else {
                dropped += 1;
                continue;
            };
            fixture.write(30);
            if fixture.store.index_mark().is_some() {
                fixture.check_saved(&file).unwrap();
                used += 1;
            }
            fixture.compact();
            if fixture.store.index_mark().is_none() {
                assert!(matches!(fixture.check_saved(&file), Err(SavedIndexError::Collecting)));
            }
            fixture.collect();
            fixture.write(30);
            let has_deleted = fixture.has_deleted(&file);
            match fixture.check_saved(&file) {
                Ok(()) => used_after_compaction += 1,
                Err(SavedIndexError::Outdated(_)) if has_deleted => outdated += 1,
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        assert!(
            used > 20 && used_after_compaction > 20 && outdated > 5 && dropped > 10,
            "{used} {used_after_compaction} {outdated} {dropped}"
        );
    }

    /// Saves a key, writes, and forgets all that is old; the same with a key that is written to while it is saved.
    fn check_forgotten(write: impl Fn(&mut Fixture), is_fit: bool) {
        for changes_meanwhile in [0, 1] {
            let mut fixture = Fixture::new(0);
            fixture.put("a");
            let mark = fixture.store.index_mark().unwrap();
            (0..changes_meanwhile).for_each(|_| fixture.put("a"));
            let file = fixture.save_as_of(mark, KEYS_MAX, 0).unwrap();
            write(&mut fixture);
            let revision = fixture.store.current_revision();
            fixture.apply(&Command::Compact { revision });
            fixture.collect();
            match fixture.check_saved(&file) {
                Ok(()) => assert!(is_fit, "changed {changes_meanwhile} times"),
                Err(SavedIndexError::Outdated(_)) => assert!(!is_fit, "changed {changes_meanwhile} times"),
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_deletion_that_is_collected_outdates_a_saved_index() {
        check_forgotten(|fixture| fixture.put("a"), true);
        check_forgotten(
            |fixture| {
                fixture.delete("a");
                fixture.put("b");
            },
            false,
        );
    }

    #[test]
    fn a_key_that_was_made_again_after_the_compaction_is_known_to_have_been_deleted() {
        for changes in [1, 2] {
            let mut fixture = Fixture::new(0);
            fixture.put("a");
            let file = fixture.save(KEYS_MAX, 0).unwrap();
            fixture.delete("a");
            fixture.put("b");
            let revision = fixture.store.current_revision();
            (0..changes).for_each(|_| fixture.put("a"));
            fixture.apply(&Command::Compact { revision });
            fixture.collect();
            assert!(matches!(fixture.check_saved(&file), Err(SavedIndexError::Outdated(_))));
        }
    }

    #[test]
    fn damage_anywhere_is_found() {
        let mut fixture = Fixture::new(1);
        fixture.write(60);
        let file = fixture.save(10, 0).unwrap();
        fixture.check_saved(&file).unwrap();
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut damaged = file.clone();
                damaged[at] ^= 1 << bit;
                assert!(fixture.open_saved(&damaged).is_err(), "bit {bit} of byte {at}");
            }
            assert!(fixture.open_saved(&file[..at]).is_err(), "cut to {at} bytes");
        }
        let longer = [&file[..], b"x"].concat();
        assert!(fixture.open_saved(&longer).is_err(), "something behind the end");
    }

    #[test]
    fn an_index_of_another_state_is_refused() {
        let mut fixture = Fixture::new(2);
        fixture.write(60);
        let mut other = Fixture::new(3);
        other.write(60);
        let file = other.save(KEYS_MAX, 0).unwrap();
        fixture.write(100);
        assert!(matches!(fixture.open_saved(&file), Err(SavedIndexError::Digest)), "never these rows");
        let file = fixture.save(KEYS_MAX, 0).unwrap();
        assert!(matches!(other.open_saved(&file), Err(SavedIndexError::Ahead { .. })), "rows that were lost");
    }
}
