//! Puts a state together that did not come about by commands: one that is brought in from elsewhere. It ends as the same bytes that
//! commands would have made, with a digest that every later start checks.

use std::sync::Arc;

use bytes::Bytes;

use super::leases::Lease;
use super::meta::{self, StateRecord};
use super::row::{Row, corrupt};
use super::store::Store;
use super::{EventKind, LeaseId, Revision, RowId};
use crate::auth::{AuthState, Role, User};
use crate::engine::{Batch, Engine, EngineError};
use crate::level::Level;

/// Bytes that are handed to the engine at once.
const BATCH_BYTES: usize = 1 << 20;

/// Where a state stands that was put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) revision: Revision,
    /// Oldest readable revision, or [`Revision::NEVER_COMPACTED`].
    pub(crate) compacted: Revision,
}

/// A state while it is put together in an engine that was empty.
pub(crate) struct Assembly {
    engine: Arc<dyn Engine>,
    batch: Batch,
    bytes: usize,
    last: Option<RowId>,
    grants: u64,
    level: Level,
}

impl Assembly {
    pub(crate) fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine, batch: Batch::default(), bytes: 0, last: None, grants: 0, level: Level::FIRST }
    }

    /// Goes on with a whole state, all of it committed. Its alarms and its downgrade were those of a cluster that is gone.
    pub(crate) fn of(store: &Store) -> Self {
        let mut batch = Batch::default();
        batch.delete(meta::downgrade_key());
        store.alarms().for_each(|alarm| batch.delete(meta::alarm_key(alarm)));
        let StateRecord { grants, level, .. } = store.state;
        Self { batch, grants, level, ..Self::new(Arc::clone(store.engine())) }
    }

    /// Adds a row; rows come in order.
    ///
    /// # Errors
    /// When no command could have made this row here, or the engine fails.
    pub(crate) fn row(&mut self, id: RowId, row: &Row) -> Result<(), EngineError> {
        check_row(id, row)?;
        if self.last.is_some_and(|last| last >= id) {
            return Err(corrupt(&id.to_key(), "rows are not in order"));
        }
        self.last = Some(id);
        self.put(id.to_key(), row.encode())
    }

    /// Adds a lease; its keys follow from the rows.
    ///
    /// # Errors
    /// When the engine fails.
    pub(crate) fn lease(
        &mut self,
        id: LeaseId,
        ttl_seconds: i64,
        remaining_seconds: Option<i64>,
    ) -> Result<(), EngineError> {
        self.grants += 1;
        let keys = std::collections::BTreeSet::new();
        let lease = Lease { id, ttl_seconds, remaining_seconds, grant: self.grants, keys };
        self.put(meta::lease_key(id), lease.encode())
    }

    /// Adds users and roles.
    ///
    /// # Errors
    /// When the engine fails.
    pub(crate) fn auth(&mut self, state: Bytes, users: &[User], roles: &[Role]) -> Result<(), EngineError> {
        for (key, record) in AuthState::records(state, users, roles) {
            self.put(meta::auth_key(&key), record)?;
        }
        Ok(())
    }

    /// Adds a record of the replication layer.
    ///
    /// # Errors
    /// When the engine fails.
    pub(crate) fn replication(&mut self, name: &str, record: Bytes) -> Result<(), EngineError> {
        self.put(meta::replication_key(name), record)
    }

    /// Reads everything back as a start does, and makes it durable under its digest.
    ///
    /// # Errors
    /// When rows lie above the revision, or the engine fails.
    pub(crate) fn finish(mut self, numbers: Numbers) -> Result<Store, EngineError> {
        self.write()?;
        let collected = Revision::NEVER_COMPACTED;
        let state = StateRecord {
            revision: numbers.revision,
            compacted: numbers.compacted,
            // Whoever compacted may have left rows: the first collection looks at all of them.
            collected,
            grants: self.grants,
            level: self.level,
        };
        let mut store = Store::with_records(Arc::clone(&self.engine), state)?;
        store.load_rows(b"")?;
        store.touch_state();
        store.commit()?;
        self.engine.flush()?;
        Ok(store)
    }

    fn put(&mut self, key: Bytes, value: Bytes) -> Result<(), EngineError> {
        self.bytes += key.len() + value.len();
        self.batch.put(key, value);
        if self.bytes >= BATCH_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), EngineError> {
        self.bytes = 0;
        self.engine.write(&std::mem::take(&mut self.batch))
    }
}

/// What holds for every row that a command makes, as far as one row shows it.
fn check_row(id: RowId, row: &Row) -> Result<(), EngineError> {
    let kv = &row.kv;
    let is_counted = match row.kind {
        EventKind::Put => {
            kv.create_revision >= Revision::FIRST
                && kv.create_revision <= id.main
                && (1..=id.main.0).contains(&kv.version)
        }
        EventKind::Delete => kv.version == 0,
    };
    let is_row = id.main >= Revision::FIRST && kv.mod_revision == id.main && !kv.key.is_empty();
    if is_row && is_counted { Ok(()) } else { Err(corrupt(&id.to_key(), "its revisions cannot be")) }
}
