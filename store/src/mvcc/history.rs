//! Reads the past as events, for watches that start behind the present.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::row::Row;
use super::store::Store;
use super::{Event, KeyRange, Refusal, Revision, RevisionEvents, RowId};
use crate::engine::EngineError;

/// A piece of the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The matching events, one element per revision that has any.
    pub revisions: Vec<RevisionEvents>,
    /// Every revision up to this one is covered.
    pub through: Revision,
}

/// Bounds of one piece; a revision is never split, so a piece may exceed them by one revision.
#[derive(Clone, Copy, Debug)]
pub struct HistoryLimits {
    /// Most rows to look at.
    pub rows_max: usize,
    /// Most bytes of matching rows to return.
    pub bytes_max: usize,
}

impl Store {
    /// Returns the changes of `range` from revision `from` on, as far as the limits allow, with what each key held before.
    ///
    /// # Errors
    /// The outer error is the engine's. The inner one is [`Refusal::Compacted`] when `from` lies below the compact revision.
    pub fn history(
        &self,
        range: &KeyRange,
        from: Revision,
        limits: HistoryLimits,
    ) -> Result<Result<History, Refusal>, EngineError> {
        if from < self.state.compacted {
            return Ok(Err(Refusal::Compacted { requested: from, compacted: self.state.compacted }));
        }
        let scanned = self.scan_revisions(range, from, limits)?;
        let mut revisions: Vec<RevisionEvents> = Vec::new();
        for (id, row) in scanned.rows {
            let prev = self.row_before(&row.kv.key, id)?;
            let event = Event { kind: row.kind, kv: row.kv, prev };
            match revisions.last_mut().filter(|last| last.revision == id.main) {
                Some(last) => last.events.push(event),
                None => revisions.push(RevisionEvents { revision: id.main, events: vec![event] }),
            }
        }
        let through = scanned.next.map_or(self.state.revision, |next| Revision(next.0 - 1));
        Ok(Ok(History { revisions, through }))
    }

    /// Hashes the stored bytes of all rows up to `revision`, or up to now, that a compaction keeps; members that have not
    /// collected yet get the same number.
    ///
    /// # Errors
    /// The outer error is the engine's, the inner one says that the revision cannot be read.
    pub fn hash_rows(&self, revision: Option<Revision>) -> Result<Result<u32, Refusal>, EngineError> {
        if let Err(refusal) = self.check_readable(revision) {
            return Ok(Err(refusal));
        }
        let last = revision.unwrap_or(self.state.revision);
        let before = RowId::first_of(last.next()).to_key();
        let mut hasher = crc32fast::Hasher::new();
        let mut outcome = Ok(());
        self.engine.scan(b"", Some(&before), &mut |key, value| {
            let read = RowId::from_key(key)
                .and_then(|id| Row::decode(id, Bytes::copy_from_slice(value)).map(|row| (id, row)));
            match read {
                Ok((id, row)) => {
                    let entry = self.index.entry(&row.kv.key);
                    if entry.is_some_and(|entry| entry.survives(id, self.state.compacted)) {
                        hasher.update(key);
                        hasher.update(value);
                    }
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    outcome = Err(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        outcome.map(|()| Ok(hasher.finalize()))
    }

    fn scan_revisions(
        &self,
        range: &KeyRange,
        from: Revision,
        limits: HistoryLimits,
    ) -> Result<Scanned, EngineError> {
        let before = RowId::first_of(self.state.revision.next()).to_key();
        let mut scanned = Scanned::default();
        let mut outcome = Ok(());
        self.engine.scan(&RowId::first_of(from).to_key(), Some(&before), &mut |key, value| {
            let read = RowId::from_key(key)
                .and_then(|id| Row::decode(id, Bytes::copy_from_slice(value)).map(|row| (id, row)));
            match read {
                Ok((id, row)) => scanned.add(id, row, range, limits),
                Err(error) => {
                    outcome = Err(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        outcome.map(|()| scanned)
    }
}

#[derive(Default)]
struct Scanned {
    rows: Vec<(RowId, Row)>,
    seen: usize,
    bytes: usize,
    last: Option<Revision>,
    /// The revision at which the scan stopped short.
    next: Option<Revision>,
}

impl Scanned {
    fn add(&mut self, id: RowId, row: Row, range: &KeyRange, limits: HistoryLimits) -> ControlFlow<()> {
        let full = self.seen >= limits.rows_max || self.bytes >= limits.bytes_max;
        if full && self.last != Some(id.main) {
            self.next = Some(id.main);
            return ControlFlow::Break(());
        }
        self.seen += 1;
        self.last = Some(id.main);
        if range.contains(&row.kv.key) {
            self.bytes += row.kv.key.len() + row.kv.value.len();
            self.rows.push((id, row));
        }
        ControlFlow::Continue(())
    }
}
