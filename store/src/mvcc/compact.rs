//! Compaction. The command only moves the compact revision, on all members at the same log position; each member then
//! removes rows on its own time, in small steps between commands.
//!
//! Rows are removed by batches that come behind the batch of the command, and the engine makes batches durable in order, so
//! a row is never gone while the compaction that allows it could still be lost (safety rule 5). All rows of a key that go in
//! one step go in one batch, tombstone included, so a key cannot come back.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::row::Row;
use super::store::Store;
use super::{Refusal, Revision, RowId};
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
            for dropped in self.index.collect(key, target) {
                self.pending.batch.delete(dropped.to_key());
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
