//! Compaction. The command only moves the compact revision, on all members at the same log position; each member then
//! removes rows on its own time, in small steps between commands: rows are read beside everything else, and only their removal makes
//! others wait.
//!
//! Rows are removed by batches that come behind the batch of the command, and the engine makes batches durable in order, so
//! a row is never gone while the compaction that allows it could still be lost (safety rule 5). All rows of a key that go in
//! one step go in one batch, tombstone included, so a key cannot come back. A saved index may still show it: so the tombstone moves to
//! another place in that batch, until an index is saved that has seen the deletion.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::index::Collected;
use super::row::Row;
use super::store::Store;
use super::{EventKind, KeyValue, Refusal, Revision, RowId, meta};
use crate::engine::{Engine, EngineError};

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

    /// Removes what the compaction does not keep of the keys that a piece names. Runs between commits and needs a [`Store::commit`]
    /// afterwards.
    pub fn collect_piece(&mut self, piece: &Piece) -> Collection {
        assert!(
            self.pending.is_empty(),
            "rows are collected between commits, so that the engine holds them all"
        );
        let Piece { of: Uncollected { engine, from, target }, keys, next } = piece;
        let is_next =
            |due: Uncollected| Arc::ptr_eq(&due.engine, engine) && (due.from, due.target) == (*from, *target);
        if !self.uncollected().is_some_and(is_next) {
            // The whole state was replaced while it was read.
            return Collection::MoreToDo;
        }
        let target = *target;
        for key in keys {
            let Collected { rows, deletion } = self.index.collect(key, target);
            for dropped in rows {
                self.pending.batch.delete(dropped.to_key());
            }
            if let Some(deletion) = deletion {
                self.remember_deletion(key, deletion);
            }
        }
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
        Ok(self.collect_piece(&uncollected.read(rows_max)?))
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
///
/// Reading may take long: a key loses all its old rows at once, so a pass over a store that was written in rounds meets what it has
/// removed itself, and the engine walks over each.
pub struct Uncollected {
    engine: Arc<dyn Engine>,
    from: RowId,
    target: Revision,
}

/// What was read: keys of which something may have to go.
pub struct Piece {
    of: Uncollected,
    keys: Vec<Bytes>,
    /// Where the next piece begins, unless this is the last one of the pass.
    next: Option<RowId>,
}

impl Uncollected {
    /// Reads up to `rows_max` rows, at least one.
    ///
    /// # Errors
    /// When the engine fails; the member must stop then.
    pub fn read(self, rows_max: usize) -> Result<Piece, EngineError> {
        let before = RowId::first_of(self.target.next()).to_key();
        let (mut keys, mut last, mut rows) = (Vec::new(), None, 0);
        let mut outcome = Ok(());
        self.engine.scan(&self.from.to_key(), Some(&before), &mut |key, value| {
            let read = RowId::from_key(key)
                .and_then(|id| Row::decode(id, Bytes::copy_from_slice(value)).map(|row| (id, row.kv.key)));
            match read {
                Ok((id, key)) => {
                    last = Some(id);
                    keys.push(key);
                    rows += 1;
                }
                Err(error) => outcome = Err(error),
            }
            if outcome.is_err() || rows >= rows_max {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        outcome?;
        let next = last.filter(|_| rows >= rows_max);
        let next = next.map(|last| RowId { main: last.main, sub: last.sub.saturating_add(1) });
        Ok(Piece { of: self, keys, next })
    }
}
