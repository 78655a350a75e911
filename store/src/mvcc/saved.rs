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
        store.load_deletions(mark.revision)?;
        store.load_rows(&RowId::first_of(mark.revision.next()).to_key())?;
        store.deletions_since = Some(mark.revision);
        if mark.compacted < state.compacted {
            store.index.forget(state.compacted);
        }
        // A version that knows of no saved index remembers no deletion. The digest knows what exists now, not what was before.
        if store.digest() == digest && !store.index.misses_rows() {
            return Ok(Ok(store));
        }
        Ok(Err(if mark.compacted < state.compacted {
            SavedIndexError::Outdated(state.compacted)
        } else {
            SavedIndexError::Digest
        }))
    }

    /// Begins to save the index: returns what it shows, and remembers later deletions. `None` while rows are being removed.
    pub(crate) fn begin_saving(&mut self) -> Option<Mark> {
        if self.state.collected != self.state.compacted {
            return None;
        }
        self.deletions_since.get_or_insert(self.state.revision);
        Some(Mark { revision: self.state.revision, compacted: self.state.compacted })
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

    /// Returns how many rows a start had to read, and all that were written since.
    pub(crate) fn rows_added(&self) -> u64 {
        self.index.pushed()
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
    use std::ops::ControlFlow;

    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::super::index::saved::{KEYS_MAX, Writer, of_format};
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

        /// Ends the lease, or grants it again.
        fn toggle_lease(&mut self) {
            let id = LeaseId(7);
            self.apply(&match self.store.lease(id) {
                Some(_) => Command::LeaseRevoke { id },
                None => Command::LeaseGrant { id, ttl_seconds: 60 },
            });
        }

        fn write(&mut self, times: usize) {
            for _ in 0..times {
                if self.rng.random_ratio(1, 30) {
                    self.toggle_lease();
                }
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

        fn compact_all(&mut self) {
            self.apply(&Command::Compact { revision: self.store.current_revision() });
            self.collect();
        }

        /// Goes on as a member does that was killed.
        fn restart(&mut self, file: &[u8]) {
            self.store = self.open_saved(file).unwrap();
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
            let mark = self.store.begin_saving()?;
            let file = self.save_as_of(mark, keys_max, writes_max)?;
            while self.store.forget_deletions(mark.revision, 3).unwrap() == Collection::MoreToDo {
                self.store.commit().unwrap();
            }
            self.store.commit().unwrap();
            Some(file)
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
            assert_eq!(
                entries(&saved),
                entries(&self.store),
                "nor does it differ from the one that was never closed"
            );
            Ok(())
        }
    }

    #[test]
    fn a_saved_index_gives_the_store_that_all_rows_give() {
        let (mut saved, mut collecting, mut dropped) = (0, 0, 0);
        for seed in 0..200 {
            let mut fixture = Fixture::new(seed);
            fixture.write(100);
            let mut file = fixture.save(3, 0).unwrap();
            for _ in 0..4 {
                fixture.compact();
                match fixture.save(3, 6) {
                    Some(newer) => file = newer,
                    None => dropped += 1,
                }
                fixture.write(30);
                let is_collected = fixture.store.begin_saving().is_some();
                match fixture.check_saved(&file) {
                    Ok(()) if is_collected => saved += 1,
                    Err(SavedIndexError::Collecting) if !is_collected => collecting += 1,
                    other => panic!("seed {seed}: {other:?}"),
                }
                fixture.collect();
                fixture.write(30);
                fixture.check_saved(&file).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                if seed % 3 == 0 {
                    fixture.restart(&file);
                }
            }
        }
        assert!(saved > 20 && collecting > 20 && dropped > 20, "{saved} {collecting} {dropped}");
    }

    #[test]
    fn deletions_are_remembered_until_an_index_has_seen_them() {
        let mut fixture = Fixture::new(0);
        let (from, before) =
            (meta::deletion_key(RowId::default()), meta::deletion_key(RowId::first_of(Revision(i64::MAX))));
        let remembered = |fixture: &Fixture| {
            let mut count = 0;
            fixture
                .engine
                .scan(&from, Some(&before), &mut |_, _| {
                    count += 1;
                    ControlFlow::Continue(())
                })
                .unwrap();
            count
        };
        fixture.put("a");
        fixture.delete("a");
        fixture.put("b");
        fixture.compact_all();
        assert_eq!(remembered(&fixture), 0, "no saved index shows it");
        fixture.put("c");
        fixture.save(KEYS_MAX, 0).unwrap();
        fixture.delete("c");
        fixture.put("d");
        fixture.compact_all();
        assert_eq!(remembered(&fixture), 1);
        let file = fixture.save(KEYS_MAX, 0).unwrap();
        assert_eq!(remembered(&fixture), 0);
        fixture.check_saved(&file).unwrap();
    }

    /// Saves a key, which is written to meanwhile or not, changes it, and forgets all that is old.
    fn check_forgotten(change: impl Fn(&mut Fixture), remembers: Remembers) {
        for changes_meanwhile in [0, 1] {
            let mut fixture = Fixture::new(0);
            fixture.put("a");
            let mark = fixture.store.begin_saving().unwrap();
            (0..changes_meanwhile).for_each(|_| fixture.put("a"));
            let file = fixture.save_as_of(mark, KEYS_MAX, 0).unwrap();
            if remembers == Remembers::Nothing {
                // As a version does that knows of no saved index and leaves the file where it is.
                fixture.store = Store::open(Arc::new(fixture.engine.clone())).unwrap();
            }
            change(&mut fixture);
            match (fixture.check_saved(&file), remembers) {
                (Ok(()), Remembers::Deletions) | (Err(SavedIndexError::Outdated(_)), Remembers::Nothing) => {}
                (other, _) => panic!("changed {changes_meanwhile} times meanwhile: {other:?}"),
            }
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Remembers {
        Deletions,
        Nothing,
    }

    #[test]
    fn a_key_that_was_deleted_and_collected_is_not_there() {
        for remembers in [Remembers::Deletions, Remembers::Nothing] {
            check_forgotten(
                |fixture| {
                    fixture.delete("a");
                    fixture.put("b");
                    fixture.compact_all();
                },
                remembers,
            );
        }
    }

    #[test]
    fn a_key_that_was_deleted_collected_and_made_again_has_no_past() {
        for changes in [1, 2] {
            for remembers in [Remembers::Deletions, Remembers::Nothing] {
                check_forgotten(
                    |fixture| {
                        fixture.delete("a");
                        fixture.put("b");
                        let revision = fixture.store.current_revision();
                        (0..changes).for_each(|_| fixture.put("a"));
                        fixture.apply(&Command::Compact { revision });
                        fixture.collect();
                    },
                    remembers,
                );
            }
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
    fn an_index_of_a_later_format_is_refused() {
        let fixture = Fixture::new(4);
        assert!(matches!(fixture.open_saved(&of_format(2)), Err(SavedIndexError::Format(2))));
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
