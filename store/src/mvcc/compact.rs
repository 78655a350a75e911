//! Compaction. The command only moves the compact revision, on all members at the same log position; each member then
//! removes rows on its own time, in small steps between commands.
//!
//! Rows are removed by batches that come behind the batch of the command, and the engine makes batches durable in order, so
//! a row is never gone while the compaction that allows it could still be lost (safety rule 5). All rows of a key that go in
//! one step go in one batch, tombstone included, so a key cannot come back. A saved index may still show it: so the tombstone moves to
//! another place in that batch, until an index is saved that has seen the deletion.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::index::Collected;
use super::row::Row;
use super::store::Store;
use super::{EventKind, KeyValue, Refusal, Revision, RowId, meta};
use crate::engine::EngineError;

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

    /// Removes rows that the compaction does not keep; looks at up to `rows_max` rows. Runs between commits and needs a
    /// [`Store::commit`] afterwards.
    ///
    /// # Errors
    /// When the engine fails; the member must stop then.
    pub fn collect(&mut self, rows_max: usize) -> Result<Collection, EngineError> {
        assert!(
            self.pending.is_empty(),
            "rows are collected between commits, so that the engine holds them all"
        );
        if self.state.collected >= self.state.compacted {
            return Ok(Collection::Finished);
        }
        // A pass keeps its target when the next compaction comes. It begins at the last collected revision itself: a
        // tombstone there was kept until now.
        let (from, target) = self
            .collecting
            .unwrap_or((RowId::first_of(Revision(self.state.collected.0.max(0))), self.state.compacted));
        let rows = self.rows_until(from, target, rows_max)?;
        for (_, key) in &rows {
            let Collected { rows, deletion } = self.index.collect(key, target);
            for dropped in rows {
                self.pending.batch.delete(dropped.to_key());
            }
            if let Some(deletion) = deletion {
                self.remember_deletion(key, deletion);
            }
        }
        if let Some((last, _)) = rows.last().filter(|_| rows.len() == rows_max) {
            self.collecting = Some((RowId { main: last.main, sub: last.sub.saturating_add(1) }, target));
            return Ok(Collection::MoreToDo);
        }
        self.collecting = None;
        self.state.collected = target;
        self.touch_state();
        if self.state.collected < self.state.compacted {
            Ok(Collection::MoreToDo)
        } else {
            Ok(Collection::Finished)
        }
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

    fn rows_until(
        &self,
        from: RowId,
        last: Revision,
        rows_max: usize,
    ) -> Result<Vec<(RowId, Bytes)>, EngineError> {
        let before = RowId::first_of(last.next()).to_key();
        let mut rows = Vec::new();
        let mut outcome = Ok(());
        self.engine.scan(&from.to_key(), Some(&before), &mut |key, value| {
            let read = RowId::from_key(key)
                .and_then(|id| Row::decode(id, Bytes::copy_from_slice(value)).map(|row| (id, row.kv.key)));
            match read {
                Ok(row) => rows.push(row),
                Err(error) => outcome = Err(error),
            }
            if outcome.is_err() || rows.len() >= rows_max {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        outcome.map(|()| rows)
    }
}
