//! Compaction. The command only moves the compact revision, on all members at the same log position; each member then
//! removes rows on its own time, in small steps between commands: rows are read beside everything else, and only their removal makes
//! others wait.
//!
//! Rows are removed by batches that come behind the batch of the command, and the engine makes batches durable in order, so
//! a row is never gone while the compaction that allows it could still be lost (safety rule 5). Rows of a key go oldest first, its
//! tombstone last, so a key cannot come back. A saved index may still show it: so the tombstone is kept in another place from then on,
//! until an index is saved that has seen the deletion.
//!
//! A pass meets rows in the order in which they were written, and what it removes lies behind it. Where nothing between two rows stays, they
//! go with one change of the engine ([`Run`]): a store whose objects are updated again and again loses its past so, at the price of
//! reading it.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::index::Collected;
use super::row::Row;
use super::store::Store;
use super::{EventKind, KeyValue, Refusal, Revision, RowId, meta};
use crate::engine::{Batch, Engine, EngineError};

/// Whether [`Store::collect`] has more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collection {
    Finished,
    MoreToDo,
}

impl Store {
    pub(super) fn apply_compact(&mut self, revision: Revision) -> Result<(), Refusal> {
        if revision <= self.state.compacted {
            return Err(Refusal::Compacted { requested: revision, compacted: self.state.compacted });
        }
        if revision > self.state.revision {
            return Err(Refusal::FutureRevision { requested: revision, current: self.state.revision });
        }
        self.state.compacted = revision;
        self.touch_state();
        Ok(())
    }

    /// Returns the rows that the running collection looks at next, still to be read; `None` when nothing is left to collect.
    #[must_use]
    pub fn uncollected(&self) -> Option<Uncollected> {
        if self.state.collected >= self.state.compacted {
            return None;
        }
        // A pass keeps its target when the next compaction comes. It begins at the last collected revision itself: a
        // tombstone there was kept until now.
        let (from, target) = self
            .collecting
            .unwrap_or((RowId::first_of(Revision(self.state.collected.0.max(0))), self.state.compacted));
        Some(Uncollected { engine: Arc::clone(&self.engine), from, target })
    }

    /// Looks at up to `rows_max` rows of a piece, takes them out of it, and removes what the compaction does not keep of their keys so
    /// far. Whoever has begun with a piece goes on until it is empty. Runs between commits and needs a [`Store::commit`] afterwards.
    pub fn collect_piece(&mut self, piece: &mut Piece, rows_max: usize) -> Collection {
        assert!(
            self.pending.is_empty(),
            "rows are collected between commits, so that the engine holds them all"
        );
        let Piece { of: Uncollected { engine, from, target }, rows, run, next } = piece;
        let is_next =
            |due: Uncollected| Arc::ptr_eq(&due.engine, engine) && (due.from, due.target) == (*from, *target);
        if !self.uncollected().is_some_and(is_next) {
            // The whole state was replaced while it was read.
            rows.clear();
            return Collection::MoreToDo;
        }
        let target = *target;
        for (id, key) in rows.drain(..rows_max.min(rows.len())) {
            let Collected { rows: mut dropped, deletion } = self.index.collect(&key, target, id);
            let stays = dropped.last() != Some(&id);
            if stays {
                run.end(&mut self.pending.batch);
            } else {
                run.rows.extend(dropped.pop());
            }
            // An earlier pass has kept these: they lie elsewhere.
            dropped.into_iter().for_each(|row| self.pending.batch.delete(row.to_key()));
            if let Some(deletion) = deletion {
                self.remember_deletion(&key, deletion);
            }
        }
        if !rows.is_empty() {
            return Collection::MoreToDo;
        }
        run.end(&mut self.pending.batch);
        self.collecting = next.map(|next| (next, target));
        if self.collecting.is_some() {
            return Collection::MoreToDo;
        }
        self.state.collected = target;
        self.touch_state();
        if self.state.collected < self.state.compacted { Collection::MoreToDo } else { Collection::Finished }
    }

    /// Reads up to `rows_max` rows and removes what the compaction does not keep of their keys. Runs between commits and needs a
    /// [`Store::commit`] afterwards.
    ///
    /// # Errors
    /// When the engine fails; the member must stop then.
    pub fn collect(&mut self, rows_max: usize) -> Result<Collection, EngineError> {
        let Some(uncollected) = self.uncollected() else { return Ok(Collection::Finished) };
        Ok(self.collect_piece(&mut uncollected.read(rows_max)?, rows_max))
    }

    /// Keeps a tombstone that is removed from the rows where a saved index shows the key.
    fn remember_deletion(&mut self, key: &Bytes, row: RowId) {
        if self.deletions_since.is_some_and(|since| row.main > since) {
            let kv = KeyValue { key: key.clone(), mod_revision: row.main, ..KeyValue::default() };
            let tombstone = Row { kind: EventKind::Delete, kv }.encode();
            self.pending.batch.put(meta::deletion_key(row), tombstone);
        }
    }

    /// Forgets some deletions that a saved index has seen: those up to `saved`. Needs a [`Store::commit`] afterwards.
    ///
    /// # Errors
    /// When the engine fails; the member must stop then.
    pub(crate) fn forget_deletions(
        &mut self,
        saved: Revision,
        rows_max: usize,
    ) -> Result<Collection, EngineError> {
        self.deletions_since = Some(saved);
        let from = meta::deletion_key(RowId::first_of(Revision(0)));
        let before = meta::deletion_key(RowId::first_of(saved.next()));
        let mut keys = Vec::new();
        self.engine.scan(&from, Some(&before), &mut |key, _| {
            keys.push(Bytes::copy_from_slice(key));
            if keys.len() >= rows_max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let collection = if keys.len() < rows_max { Collection::Finished } else { Collection::MoreToDo };
        keys.into_iter().for_each(|key| self.pending.batch.delete(key));
        Ok(collection)
    }
}

/// Rows that a collection looks at next. They are read without the store: whatever happens to them meanwhile, the index knows it.
pub struct Uncollected {
    engine: Arc<dyn Engine>,
    from: RowId,
    target: Revision,
}

/// What was read: rows of which something may have to go.
pub struct Piece {
    of: Uncollected,
    rows: VecDeque<(RowId, Bytes)>,
    run: Run,
    /// Where the next piece begins, unless this is the last one of the pass.
    next: Option<RowId>,
}

/// Rows behind one another, with none between them that stays, which the index has dropped and the engine still holds.
///
/// No read looks for them, and a start that finds them drops them again.
#[derive(Default)]
struct Run {
    rows: Vec<RowId>,
}

/// Fewer rows go one by one: the engine looks at every range on each read, until its own compaction has made it true.
const RANGE_ROWS_MIN: usize = 64;

impl Run {
    /// Removes the rows from the engine.
    fn end(&mut self, batch: &mut Batch) {
        match (self.rows.first(), self.rows.last()) {
            (Some(first), Some(last)) if self.rows.len() >= RANGE_ROWS_MIN => {
                batch.delete_range(first.to_key(), behind(*last).to_key());
            }
            _ => self.rows.iter().for_each(|row| batch.delete(row.to_key())),
        }
        self.rows.clear();
    }
}

/// Returns the first place behind a row.
fn behind(row: RowId) -> RowId {
    RowId { main: row.main, sub: row.sub.saturating_add(1) }
}

impl Piece {
    /// Returns whether all of it was looked at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Uncollected {
    /// Reads up to `rows_max` rows, at least one.
    ///
    /// # Errors
    /// When the engine fails; the member must stop then.
    pub fn read(self, rows_max: usize) -> Result<Piece, EngineError> {
        let before = RowId::first_of(self.target.next()).to_key();
        let mut rows = VecDeque::new();
        let mut outcome = Ok(());
        self.engine.scan(&self.from.to_key(), Some(&before), &mut |key, value| {
            match RowId::from_key(key).and_then(|id| Ok((id, Row::key_of(id, value)?))) {
                Ok(row) => rows.push_back(row),
                Err(error) => outcome = Err(error),
            }
            if outcome.is_err() || rows.len() >= rows_max {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        outcome?;
        let next = rows.back().filter(|_| rows.len() >= rows_max).map(|(last, _)| behind(*last));
        Ok(Piece { of: self, rows, run: Run::default(), next })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::engine::MemoryEngine;
    use crate::mvcc::{Command, DeleteRange, KeyRange, Op, Put, Txn};

    const SEEDS: u64 = 40;
    const WRITES: usize = 600;

    struct Fixture {
        engine: MemoryEngine,
        store: Store,
        rng: SmallRng,
        /// Every row ever written: its key, and whether that is there from then on.
        written: BTreeMap<RowId, (Bytes, bool)>,
    }

    impl Fixture {
        fn new(seed: u64) -> Self {
            let engine = MemoryEngine::new();
            let store = Store::open(Arc::new(engine.clone())).unwrap();
            Self { engine, store, rng: SmallRng::seed_from_u64(seed), written: BTreeMap::new() }
        }

        /// Writes to a few keys that change all the time, and now and then to one of many that stay.
        fn write(&mut self) {
            let number = match self.rng.random_range(0..100) {
                0 => self.rng.random_range(10..200),
                _ => self.rng.random_range(0..5),
            };
            let key: Bytes = format!("key{number:03}").into();
            let puts = self.rng.random_ratio(9, 10);
            let op = if puts {
                Op::Put(Put { key: key.clone(), value: "v".into(), ..Put::default() })
            } else {
                Op::DeleteRange(DeleteRange { range: KeyRange::single(key.clone()), prev_kv: false })
            };
            let applied = self.store.apply(&Command::Txn(Txn::of(op))).unwrap();
            self.store.commit().unwrap();
            if !applied.events.is_empty() {
                self.written.insert(RowId::first_of(applied.revision), (key, puts));
            }
        }

        /// Runs a pass in pieces of any size, in steps of any size; the power goes behind any of them.
        fn collect(&mut self) {
            loop {
                let Some(uncollected) = self.store.uncollected() else { return };
                let mut piece = uncollected.read(self.rng.random_range(1..400)).unwrap();
                let steps = self.rng.random_range(1..200);
                loop {
                    let _more = self.store.collect_piece(&mut piece, steps);
                    self.store.commit().unwrap();
                    if self.rng.random_ratio(1, 30) {
                        self.engine.crash_behind(self.rng.random_range(0..=self.engine.unflushed_batches()));
                        self.store = Store::open(Arc::new(self.engine.clone())).unwrap();
                        break;
                    }
                    if piece.is_empty() {
                        break;
                    }
                }
            }
        }

        fn rows(&self) -> BTreeSet<RowId> {
            let mut rows = BTreeSet::new();
            let mut add = |key: &[u8], _: &[u8]| {
                rows.insert(RowId::from_key(key).unwrap());
                ControlFlow::Continue(())
            };
            self.engine.scan(b"", Some(&[meta::META_PREFIX]), &mut add).unwrap();
            rows
        }

        /// What held at the compact revision, and all from there on.
        fn rows_kept(&self, compacted: Revision) -> BTreeSet<RowId> {
            let mut held = BTreeMap::new();
            for (row, (key, is_there)) in self.written.range(..RowId::first_of(compacted.next())) {
                held.insert(key, (*row, *is_there));
            }
            let held = held.into_values().filter(|(_, is_there)| *is_there).map(|(row, _)| row);
            held.chain(self.written.range(RowId::first_of(compacted)..).map(|(row, _)| *row)).collect()
        }

        fn longest_run(kept: &BTreeSet<RowId>, before: &BTreeSet<RowId>) -> usize {
            let (mut run, mut longest) = (0, 0);
            for row in before {
                run = if kept.contains(row) { 0 } else { run + 1 };
                longest = longest.max(run);
            }
            longest
        }
    }

    #[test]
    fn a_pass_leaves_what_can_be_read_and_nothing_else_wherever_the_power_goes() {
        let mut longest = 0;
        for seed in 0..SEEDS {
            let mut fixture = Fixture::new(seed);
            for _ in 0..3 {
                (0..WRITES).for_each(|_| fixture.write());
                fixture.engine.flush().unwrap();
                let (compacted, now) = (fixture.store.compact_revision(), fixture.store.current_revision());
                let revision = Revision(fixture.rng.random_range(compacted.0.max(1) + 1..=now.0));
                fixture.store.apply(&Command::Compact { revision }).unwrap().answer.unwrap();
                fixture.store.commit().unwrap();
                fixture.engine.flush().unwrap();
                let (before, kept) = (fixture.rows(), fixture.rows_kept(revision));
                fixture.collect();
                assert_eq!(fixture.rows(), kept, "seed {seed}");
                longest = longest.max(Fixture::longest_run(&kept, &before));
                let reopened = Store::open(Arc::new(fixture.engine.clone())).unwrap();
                assert_eq!(reopened.index.keys(), fixture.store.index.keys(), "seed {seed}");
            }
        }
        assert!(longest >= 2 * RANGE_ROWS_MIN, "at most {longest} rows went together");
    }
}
