//! The store itself: applies commands and answers reads.
//!
//! ```text
//! apply(command) ──► rows, meta ──► pending batch ──► commit() ──► engine
//!        └─► index, leases, digest (at once, so later commands of the batch see it)
//! ```
//!
//! Everything is deterministic: the same commands give the same rows, answers, events and digest on every member, however
//! they are cut into batches. The caller holds a lock over `apply … commit`, so readers never see a half batch, and stops
//! the process when the engine fails.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::alarms::Alarms;
use super::digest::{SetHash, element};
use super::divergence::Verdict;
use super::index::{Index, KeyEntry, NewRow, RowBytes, Version};
use super::leases::{Lease, Leases};
use super::meta::{self, StateRecord};
use super::row::{Row, corrupt};
use super::{
    Alarm, AlarmKind, Answer, Applied, Command, Downgrade, Event, EventKind, GrantedLease, KeyValue, LeaseId,
    LeaseRemaining, Refusal, Revision, RevisionEvents, RowId,
};
use crate::auth::{AuthCommand, AuthState, access_of};
use crate::engine::{Batch, Engine, EngineError};
use crate::level::Level;

/// The replicated state of one member.
pub struct Store {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) index: Index,
    pub(super) leases: Leases,
    pub(super) alarms: Alarms,
    pub(super) downgrade: Option<Downgrade>,
    pub(super) auth: AuthState,
    pub(super) state: StateRecord,
    pub(super) set_hash: SetHash,
    pub(super) pending: Pending,
    /// Next row that the running collection looks at, and the revision it collects up to.
    pub(super) collecting: Option<(RowId, Revision)>,
    /// What the oldest saved index shows that a start may find, if there is any. Later deletions are remembered.
    pub(super) deletions_since: Option<Revision>,
}

/// Changes that are applied but not yet in the engine.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) batch: Batch,
    rows: HashMap<RowId, Bytes>,
    /// Whether the store's numbers changed without any row.
    state_changed: bool,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty() && !self.state_changed
    }
}

/// A write of one key, ready to be stored: all checks are done.
pub(super) struct Change<'a> {
    pub(super) kind: EventKind,
    pub(super) key: &'a Bytes,
    pub(super) value: Bytes,
    pub(super) lease: LeaseId,
}

/// The changes of one revision while they are made.
pub(super) struct Writing {
    pub(super) revision: Revision,
    pub(super) events: Vec<Event>,
}

/// Returns the feature level of the state in `engine`, of which nothing else is read: it may be of a later version.
///
/// # Errors
/// When the engine fails, or its record is damaged or of a later format.
pub(crate) fn stored_level(engine: &dyn Engine) -> Result<Level, EngineError> {
    let stored = engine.get(&meta::state_key())?.map(StateRecord::decode).transpose()?;
    Ok(stored.map_or(Level::FIRST, |(state, _)| state.level))
}

impl Store {
    /// Opens the state in `engine`; an empty engine is an empty store. Checks the rebuilt state against the stored digest.
    ///
    /// # Errors
    /// When the engine fails, holds damaged or unknown records, or its rows do not match the digest.
    pub fn open(engine: Arc<dyn Engine>) -> Result<Self, EngineError> {
        let stored = engine.get(&meta::state_key())?.map(StateRecord::decode).transpose()?;
        let mut store = Self::with_records(engine, stored.map_or(StateRecord::EMPTY, |(state, _)| state))?;
        store.load_rows(b"")?;
        match stored {
            Some((_, digest)) if digest != store.digest() => {
                Err(corrupt(&meta::state_key(), "rows and leases do not match the stored digest"))
            }
            None if store.digest() != SetHash::default().digest(&StateRecord::EMPTY) => {
                Err(corrupt(&meta::state_key(), "rows without a state record"))
            }
            Some(_) | None => Ok(store),
        }
    }

    /// Reads everything but the rows.
    pub(super) fn with_records(engine: Arc<dyn Engine>, state: StateRecord) -> Result<Self, EngineError> {
        let mut store = Self {
            engine,
            index: Index::default(),
            leases: Leases::default(),
            alarms: Alarms::default(),
            downgrade: None,
            auth: AuthState::default(),
            state,
            set_hash: SetHash::default(),
            pending: Pending::default(),
            collecting: None,
            deletions_since: None,
        };
        store.load_leases()?;
        store.load_alarms()?;
        store.load_downgrade()?;
        store.load_auth()?;
        Ok(store)
    }

    /// Goes on in `engine`, which holds the same rows as the engine that this was opened in.
    #[must_use]
    pub fn on(self, engine: Arc<dyn Engine>) -> Self {
        Self { engine, ..self }
    }

    fn load_leases(&mut self) -> Result<(), EngineError> {
        for record in self.load_records(meta::lease_keys())? {
            self.leases.insert(Lease::decode(record)?);
        }
        Ok(())
    }

    fn load_alarms(&mut self) -> Result<(), EngineError> {
        for record in self.load_records(meta::alarm_keys())? {
            self.alarms.raise(Alarm::decode(record)?);
        }
        Ok(())
    }

    fn load_downgrade(&mut self) -> Result<(), EngineError> {
        if let Some(record) = self.engine.get(&meta::downgrade_key())? {
            self.set_hash.add(element(&record));
            self.downgrade = Some(Downgrade::decode(record)?);
        }
        Ok(())
    }

    /// Reads all records of one kind, and counts them into the digest.
    fn load_records(&mut self, (from, before): (Bytes, Bytes)) -> Result<Vec<Bytes>, EngineError> {
        let mut records = Vec::new();
        self.engine.scan(&from, Some(&before), &mut |_, value| {
            records.push(Bytes::copy_from_slice(value));
            ControlFlow::Continue(())
        })?;
        records.iter().for_each(|record| self.set_hash.add(element(record)));
        Ok(records)
    }

    fn load_auth(&mut self) -> Result<(), EngineError> {
        let (from, before) = meta::auth_keys();
        let mut records = Vec::new();
        self.engine.scan(&from, Some(&before), &mut |key, value| {
            records.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            ControlFlow::Continue(())
        })?;
        for (key, record) in records {
            self.set_hash.add(element(&record));
            self.auth.load(&key, record)?;
        }
        self.auth.loaded();
        Ok(())
    }

    /// Reads the rows from an engine key on.
    pub(super) fn load_rows(&mut self, from: &[u8]) -> Result<(), EngineError> {
        let engine = Arc::clone(&self.engine);
        let mut outcome = Ok(());
        engine.scan(from, Some(&[meta::META_PREFIX]), &mut |key, value| {
            outcome = self.load_row(key, Bytes::copy_from_slice(value));
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        outcome
    }

    /// Reads the deletions behind `saved` that are remembered.
    pub(super) fn load_deletions(&mut self, saved: Revision) -> Result<(), EngineError> {
        let from = meta::deletion_key(RowId::first_of(saved.next()));
        let before = meta::deletion_key(RowId::first_of(self.state.revision.next()));
        let engine = Arc::clone(&self.engine);
        let mut outcome = Ok(());
        engine.scan(&from, Some(&before), &mut |key, value| {
            let stored = Bytes::copy_from_slice(value);
            outcome = meta::deletion_row(key).and_then(|id| self.load_row(&id.to_key(), stored));
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        outcome
    }

    fn load_row(&mut self, key: &[u8], stored: Bytes) -> Result<(), EngineError> {
        let id = RowId::from_key(key)?;
        let row = Row::decode(id, stored.clone())?;
        if id.main <= Revision::FIRST {
            return Err(corrupt(key, "row has a revision that no change has"));
        }
        if id.main > self.state.revision {
            return Err(corrupt(key, "row is newer than the state record"));
        }
        let lease_before = self.index.live(&row.kv.key).map_or(LeaseId::NONE, |old| old.lease);
        self.index_row(id, &row, stored, lease_before);
        Ok(())
    }

    /// Puts a row into index, leases and digest; its key had `lease_before`.
    fn index_row(&mut self, id: RowId, row: &Row, stored: Bytes, lease_before: LeaseId) {
        let version = Version::of(id, &row.kv, stored.len());
        self.leases.attach(&row.kv.key, lease_before, row.kv.lease);
        let element = element(&stored);
        if version.is_alive() {
            self.set_hash.add(element);
        }
        if let Some(hidden) = self.index.push(&row.kv.key, NewRow { version, element, stored }) {
            self.set_hash.remove(hidden);
        }
    }

    /// Returns the revision of the newest change.
    #[must_use]
    pub fn current_revision(&self) -> Revision {
        self.state.revision
    }

    /// Returns the oldest readable revision, or [`Revision::NEVER_COMPACTED`].
    #[must_use]
    pub fn compact_revision(&self) -> Revision {
        self.state.compacted
    }

    /// Returns the compaction up to which this member has removed what nobody can read any more.
    #[must_use]
    pub fn collected_revision(&self) -> Revision {
        self.state.collected
    }

    /// Returns the feature level that the members have agreed on.
    #[must_use]
    pub fn level(&self) -> Level {
        self.state.level
    }

    /// Returns the downgrade that was announced.
    #[must_use]
    pub fn downgrade(&self) -> Option<&Downgrade> {
        self.downgrade.as_ref()
    }

    /// Returns the digest of the whole logical state; equal on members that applied the same commands.
    #[must_use]
    pub fn digest(&self) -> u128 {
        self.set_hash.digest(&self.state)
    }

    /// Returns a lease with its keys.
    #[must_use]
    pub fn lease(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(id)
    }

    /// Returns the number of leases.
    #[must_use]
    pub fn lease_count(&self) -> usize {
        self.leases.count()
    }

    /// Returns all leases in order of their ids.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.iter()
    }

    /// Returns the alarms that are raised, in order of their kind.
    pub fn alarms(&self) -> impl Iterator<Item = Alarm> {
        self.alarms.iter().copied()
    }

    /// Returns users and roles.
    #[must_use]
    pub fn auth(&self) -> &AuthState {
        &self.auth
    }

    /// Returns what the rows that this member holds take in the engine.
    #[must_use]
    pub fn row_bytes(&self) -> RowBytes {
        self.index.bytes()
    }

    /// Returns the engine below.
    #[must_use]
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// Applies one command. Reads see it after [`Store::commit`].
    ///
    /// # Errors
    /// Only when the engine fails; the member must stop then. A refused command is an answer, not an error.
    pub fn apply(&mut self, command: &Command) -> Result<Applied, EngineError> {
        let mut events = Vec::new();
        let answer = match self.alarms.check(command) {
            Ok(()) => self.run_command(command, &mut events)?,
            Err(refusal) => Err(refusal),
        };
        Ok(Applied { answer, revision: self.state.revision, events })
    }

    fn run_command(
        &mut self,
        command: &Command,
        events: &mut Vec<RevisionEvents>,
    ) -> Result<Result<Answer, Refusal>, EngineError> {
        Ok(match command {
            Command::Txn(txn) => self.apply_txn(txn, events)?.map(Answer::Txn),
            Command::Compact { revision } => self.apply_compact(*revision).map(|()| Answer::Done),
            Command::LeaseGrant { id, ttl_seconds } => self.apply_grant(*id, *ttl_seconds),
            Command::LeaseRevoke { id } => self.apply_revoke(*id, events)?.map(|()| Answer::Done),
            Command::LeaseExpire { leases } => {
                self.apply_expire(leases, events)?;
                Ok(Answer::Done)
            }
            Command::LeaseCheckpoint { leases } => {
                self.apply_checkpoint(leases);
                Ok(Answer::Done)
            }
            Command::AlarmRaise(alarm) => {
                self.raise_alarm(*alarm);
                Ok(Answer::Done)
            }
            Command::AlarmClear(alarm) => Ok(Answer::AlarmCleared { was_raised: self.clear_alarm(*alarm) }),
            Command::CompareStates(comparison) => {
                if let Verdict::Unclear(members) = comparison.verdict() {
                    let alarm = |member| Alarm { kind: AlarmKind::Corrupt, member };
                    members.into_iter().for_each(|member| self.raise_alarm(alarm(member)));
                }
                Ok(Answer::Done)
            }
            Command::RaiseLevel(raised) => {
                self.raise_level(raised.level);
                Ok(Answer::Done)
            }
            Command::SetDowngrade(downgrade) => self.set_downgrade(downgrade.as_ref()).map(|()| Answer::Done),
            Command::Auth(change) => self.apply_auth(change).map(|()| Answer::Done),
            Command::Guarded { caller, command } => match self.authorize(caller, access_of(command)) {
                Ok(()) => return self.run_command(command, events),
                Err(refusal) => Err(refusal.into()),
            },
        })
    }

    /// Keeps a record of the replication layer (applied id, membership) in the next commit.
    pub fn put_replication_record(&mut self, name: &str, value: impl Into<Bytes>) {
        self.pending.batch.put(meta::replication_key(name), value);
    }

    /// Returns a record of the replication layer as committed.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn replication_record(&self, name: &str) -> Result<Option<Bytes>, EngineError> {
        self.engine.get(&meta::replication_key(name))
    }

    /// Hands everything applied since the last commit to the engine, as one batch.
    ///
    /// # Errors
    /// When the engine fails; the member must stop then.
    pub fn commit(&mut self) -> Result<(), EngineError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.batch.put(meta::state_key(), self.state.encode(self.digest()));
        self.engine.write(&pending.batch)
    }

    fn apply_grant(&mut self, id: LeaseId, ttl_seconds: i64) -> Result<Answer, Refusal> {
        if self.leases.get(id).is_some() {
            return Err(Refusal::LeaseExists);
        }
        self.state.grants += 1;
        let lease = Lease {
            id,
            ttl_seconds,
            remaining_seconds: None,
            grant: self.state.grants,
            keys: std::collections::BTreeSet::new(),
        };
        self.store_lease(&lease);
        self.leases.insert(lease);
        Ok(Answer::LeaseGranted { id, ttl_seconds })
    }

    /// Keeps what has changed in the same batch and digest as everything else.
    fn apply_auth(&mut self, change: &AuthCommand) -> Result<(), Refusal> {
        for record in self.auth.apply(change)? {
            let key = meta::auth_key(&record.key);
            if let Some(old) = record.old {
                self.set_hash.remove(element(&old));
            }
            match record.new {
                Some(new) => {
                    self.set_hash.add(element(&new));
                    self.pending.batch.put(key, new);
                }
                None => self.pending.batch.delete(key),
            }
        }
        Ok(())
    }

    fn store_lease(&mut self, lease: &Lease) {
        let record = lease.encode();
        self.set_hash.add(element(&record));
        self.pending.batch.put(meta::lease_key(lease.id), record);
    }

    /// Ends a lease and deletes its keys, in order, at one revision.
    fn apply_revoke(
        &mut self,
        id: LeaseId,
        events: &mut Vec<RevisionEvents>,
    ) -> Result<Result<(), Refusal>, EngineError> {
        let Some(lease) = self.leases.get(id).cloned() else {
            return Ok(Err(Refusal::LeaseNotFound));
        };
        let mut writing = self.begin_write();
        for key in &lease.keys {
            self.delete_key(&mut writing, key)?;
        }
        self.end_write(writing, events);
        self.set_hash.remove(element(&lease.encode()));
        self.pending.batch.delete(meta::lease_key(id));
        self.leases.remove(id);
        Ok(Ok(()))
    }

    fn apply_expire(
        &mut self,
        leases: &[GrantedLease],
        events: &mut Vec<RevisionEvents>,
    ) -> Result<(), EngineError> {
        for expired in leases {
            if self.leases.get(expired.id).is_some_and(|lease| lease.grant == expired.grant) {
                let _found = self.apply_revoke(expired.id, events)?;
            }
        }
        Ok(())
    }

    fn apply_checkpoint(&mut self, leases: &[LeaseRemaining]) {
        for checkpoint in leases {
            let Some(lease) = self.leases.get(checkpoint.lease.id) else { continue };
            if lease.grant != checkpoint.lease.grant {
                continue;
            }
            self.set_hash.remove(element(&lease.encode()));
            let changed =
                self.leases.set_remaining(checkpoint.lease.id, checkpoint.remaining_seconds).cloned();
            if let Some(lease) = changed {
                self.store_lease(&lease);
            }
        }
    }

    /// A level never falls: what was written above it is there. Whoever announces a downgrade wants to go back to a version that may
    /// know no higher one.
    fn raise_level(&mut self, level: Level) {
        if level > self.state.level && self.downgrade.is_none() {
            self.state.level = level;
            self.touch_state();
        }
    }

    fn set_downgrade(&mut self, downgrade: Option<&Downgrade>) -> Result<(), Refusal> {
        if downgrade.is_some() && self.downgrade.is_some() {
            return Err(Refusal::DowngradeInProgress);
        }
        if let Some(ended) = &self.downgrade {
            self.set_hash.remove(element(&ended.encode()));
            self.pending.batch.delete(meta::downgrade_key());
        }
        if let Some(begun) = downgrade {
            let record = begun.encode();
            self.set_hash.add(element(&record));
            self.pending.batch.put(meta::downgrade_key(), record);
        }
        self.downgrade = downgrade.cloned();
        Ok(())
    }

    fn raise_alarm(&mut self, alarm: Alarm) {
        if self.alarms.raise(alarm) {
            let record = alarm.encode();
            self.set_hash.add(element(&record));
            self.pending.batch.put(meta::alarm_key(alarm), record);
        }
    }

    fn clear_alarm(&mut self, alarm: Alarm) -> bool {
        let was_raised = self.alarms.clear(alarm);
        if was_raised {
            self.set_hash.remove(element(&alarm.encode()));
            self.pending.batch.delete(meta::alarm_key(alarm));
        }
        was_raised
    }

    /// Makes the next commit write the store's numbers even if no row changed.
    pub(super) fn touch_state(&mut self) {
        self.pending.state_changed = true;
    }

    pub(super) fn begin_write(&self) -> Writing {
        Writing { revision: self.state.revision.next(), events: Vec::new() }
    }

    /// Makes the revision real if anything changed in it.
    pub(super) fn end_write(&mut self, writing: Writing, events: &mut Vec<RevisionEvents>) {
        if writing.events.is_empty() {
            return;
        }
        self.state.revision = writing.revision;
        events.push(RevisionEvents { revision: writing.revision, events: writing.events });
    }

    /// Deletes a key that may not exist; returns what it held.
    pub(super) fn delete_key(
        &mut self,
        writing: &mut Writing,
        key: &Bytes,
    ) -> Result<Option<KeyValue>, EngineError> {
        if self.index.live(key).is_none() {
            return Ok(None);
        }
        self.write_key(
            writing,
            Change { kind: EventKind::Delete, key, value: Bytes::new(), lease: LeaseId::NONE },
        )
    }

    /// Stores one change and returns what the key held before.
    pub(super) fn write_key(
        &mut self,
        writing: &mut Writing,
        change: Change<'_>,
    ) -> Result<Option<KeyValue>, EngineError> {
        let prev = self.live_kv(change.key)?;
        let sub = u32::try_from(writing.events.len()).expect("a revision has fewer than 2^32 changes");
        let id = RowId { main: writing.revision, sub };
        let kv = match change.kind {
            EventKind::Put => KeyValue {
                key: change.key.clone(),
                value: change.value,
                create_revision: prev.as_ref().map_or(writing.revision, |prev| prev.create_revision),
                mod_revision: writing.revision,
                version: prev.as_ref().map_or(1, |prev| prev.version + 1),
                lease: change.lease,
            },
            EventKind::Delete => {
                KeyValue { key: change.key.clone(), mod_revision: writing.revision, ..KeyValue::default() }
            }
        };
        let stored = Row { kind: change.kind, kv }.encode();
        // Decoded again so that the event's bytes are slices of the row and do not hold the whole request.
        let row = Row::decode(id, stored.clone())?;
        self.pending.batch.put(id.to_key(), stored.clone());
        self.pending.rows.insert(id, stored.clone());
        self.index_row(id, &row, stored, prev.as_ref().map_or(LeaseId::NONE, |prev| prev.lease));
        writing.events.push(Event { kind: row.kind, kv: row.kv, prev: prev.clone() });
        Ok(prev)
    }

    /// Returns a key as it is now, uncommitted changes included.
    pub(super) fn live_kv(&self, key: &[u8]) -> Result<Option<KeyValue>, EngineError> {
        let Some(entry) = self.index.entry(key) else { return Ok(None) };
        let row = entry.live().map(Version::row);
        row.map(|row| self.read_version(entry, row)).transpose()
    }

    /// Returns a row that the index knows.
    pub(super) fn read_row(&self, key: &[u8], row: RowId) -> Result<KeyValue, EngineError> {
        let entry = self.index.entry(key);
        let entry =
            entry.ok_or_else(|| corrupt(&row.to_key(), "a row belongs to a key that the index lacks"))?;
        self.read_version(entry, row)
    }

    fn read_version(&self, entry: &KeyEntry, row: RowId) -> Result<KeyValue, EngineError> {
        let stored = match entry.cached(row).or_else(|| self.pending.rows.get(&row)) {
            Some(stored) => stored.clone(),
            None => {
                let found = self.engine.get(&row.to_key())?;
                found.ok_or_else(|| corrupt(&row.to_key(), "a row that the index knows is missing"))?
            }
        };
        Ok(Row::decode(row, stored)?.kv)
    }
}
