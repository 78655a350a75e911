//! Applies committed entries to the MVCC core, in batches, and answers whoever waits for them.
//!
//! Data, applied id and membership travel in one engine batch (safety rule 5), so after a crash the state is that of
//! some applied id, and the log above it is applied again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use futures::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use prost::Message;
use proto::raft as wire;
use tokio::sync::watch;

use super::convert;
use super::members::is_voter;
use super::saved_index::{self, Saving};
use super::slow::Place;
use super::snapshot::{self, SnapshotBuilder, SnapshotData};
use super::types::{Entry, LogId, Reply, SnapshotMeta, StoredMembership, TypeConfig};
use crate::auth::SessionChange;
use crate::config::SLOW_AFTER;
use crate::engine::EngineError;
use crate::env::engines::Staged;
use crate::env::{Engines, Env};
use crate::lease::LeaseChange;
use crate::level::{Level, Levels, RaiseLevel};
use crate::mvcc::divergence::Verdict;
use crate::mvcc::{self, Answer, Applied, Collection, Command, Store, stored_level};
use crate::watch::StoreAccess;
use crate::wire::decode_command;

pub(crate) type SnapshotOf = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotData>;

/// Names of our records beside the data.
pub(super) const APPLIED_RECORD: &str = "applied";
pub(super) const MEMBERSHIP_RECORD: &str = "membership";
pub(super) const REMOVED_RECORD: &str = "removed";
/// Comparisons that a member remembers: the last one, and some for a leader that is behind.
const COMPARISONS_NOTED: usize = 4;
/// Entries applied under one lock and written as one engine batch: bounds how long readers wait.
const APPLY_BATCH_MAX: usize = 1024;
/// Rows looked at per step of a collection, for the same reason.
const COLLECT_STEP_ROWS: usize = 100;
/// Rows that are read for many such steps. As many at most go with one change of the engine.
const COLLECT_READ_ROWS: usize = 4096;

/// What happens beside the store when entries are applied: watches, lease clocks, waiting clients.
pub(crate) trait Observer: Send + Sync + 'static {
    /// A command was applied; called in log order, before its client is answered, under no lock.
    fn applied(&self, entry: AppliedEntry);
    /// The whole state was replaced by a snapshot.
    fn replaced(&self, store: &Store);
}

/// One applied command.
pub(crate) struct AppliedEntry {
    pub(crate) origin: u64,
    pub(crate) request_id: u64,
    pub(crate) place: Place,
    pub(crate) applied: Applied,
    pub(crate) leases: LeaseChange,
    pub(crate) sessions: SessionChange,
}

/// The state of one member, shared by raft, readers and snapshots.
pub(crate) struct Machine {
    store: RwLock<Store>,
    /// Holds the data directory's lock, so it is dropped after the store.
    env: Env,
    replication: Mutex<Replication>,
    /// Up to where the engine has been flushed; what a restart finds at least. Apart from what entries change, because it is set while
    /// they are applied.
    durable: Mutex<Option<SnapshotMeta>>,
    observer: Arc<dyn Observer>,
    /// Feature levels that this member can be at.
    levels: Levels,
    comparisons: Mutex<Comparisons>,
    applied_id: watch::Sender<Option<LogId>>,
    /// Rows that had been added when the index was saved last; `None` when it was not. Locked by whoever saves it, so that nobody
    /// else does.
    saved: Mutex<Option<u64>>,
}

/// Whether about as many rows have been added since the index was saved as there are, so that saving costs a row as much in a large
/// store as in a small one.
fn is_due(saved: Option<u64>, store: &Store) -> bool {
    let rows = u64::try_from(store.row_count()).unwrap_or(u64::MAX);
    saved.is_none_or(|saved| store.rows_added().saturating_sub(saved) >= rows)
}

/// What came of comparing members' states, since the start.
#[derive(Debug, Default)]
struct Comparisons {
    /// Digests at the last comparisons, by their entries.
    noted: BTreeMap<u64, u128>,
    /// The member that was last found to differ from a majority, and the entry at which it did.
    odd: Option<(u64, u64)>,
}

impl Comparisons {
    fn add(&mut self, compared: Compared) {
        let Compared { index, digest, verdict, of } = compared;
        self.noted.insert(index, digest);
        while self.noted.len() > COMPARISONS_NOTED {
            self.noted.pop_first();
        }
        if let Verdict::Odd(member) = verdict {
            self.odd = Some((member, of));
        }
    }
}

/// One applied comparison.
struct Compared {
    index: u64,
    digest: u128,
    verdict: Verdict,
    /// The entry whose digests were compared.
    of: u64,
}

#[derive(Clone, Debug, Default)]
struct Replication {
    applied: Option<LogId>,
    membership: StoredMembership,
    /// Members that were removed. Kept for ever, because an id that returned could vote again: eight bytes for each.
    removed: Arc<BTreeSet<u64>>,
}

impl Replication {
    /// Returns what a snapshot of this state is named.
    fn snapshot_meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() }
    }
}

/// The state that a start finds, read and checked as a whole before anything is written.
pub(crate) struct Found {
    /// Absent when there is no engine yet.
    store: Option<Store>,
    /// Whether a saved index spared it most rows.
    had_index: bool,
    replication: Replication,
    levels: Levels,
}

impl Found {
    /// Reads the current engine and changes nothing.
    ///
    /// # Errors
    /// When the engine fails, holds damaged records, or is at a feature level that is none of `levels`.
    pub(crate) fn read(engines: &dyn Engines, levels: Levels) -> Result<Self, EngineError> {
        let engine = engines.inspect()?;
        if let Some(engine) = &engine {
            levels.check(stored_level(&**engine)?)?;
        }
        let opened = engine.map(|engine| saved_index::open(engines, engine)).transpose()?;
        let (store, had_index) = opened.map_or((None, false), |(store, had)| (Some(store), had));
        let replication = store.as_ref().map(read_replication).transpose()?.unwrap_or_default();
        Ok(Self { store, had_index, replication, levels })
    }

    pub(crate) fn is_new(&self) -> bool {
        self.store.is_none()
    }

    /// Returns the state itself.
    pub(crate) fn into_store(self) -> Option<Store> {
        self.store
    }

    /// Returns the last applied entry.
    pub(crate) fn applied(&self) -> Option<LogId> {
        self.replication.applied
    }

    /// Whether a member was removed from the cluster.
    pub(crate) fn has_removed(&self, member_id: u64) -> bool {
        self.replication.removed.contains(&member_id)
    }
}

impl Machine {
    /// Opens the engine whose state was found.
    ///
    /// # Errors
    /// When the engine fails.
    pub(crate) fn open(env: &Env, observer: Arc<dyn Observer>, found: Found) -> Result<Self, EngineError> {
        let engine = env.engines.open()?;
        let store = match found.store {
            Some(store) => store.on(engine),
            None => Store::open(engine)?,
        };
        let replication = found.replication;
        let (applied_id, _) = watch::channel(replication.applied);
        // Everything that a start finds is durable.
        let durable = replication.applied.map(|_| replication.snapshot_meta());
        let machine = Self {
            env: env.clone(),
            store: RwLock::new(store),
            replication: Mutex::new(replication),
            durable: Mutex::new(durable),
            observer,
            levels: found.levels,
            comparisons: Mutex::default(),
            applied_id,
            // The rows that were read are behind the saved index.
            saved: Mutex::new(found.had_index.then_some(0)),
        };
        machine.observer.replaced(&machine.store());
        Ok(machine)
    }

    /// Returns the store for reading.
    pub(crate) fn store(&self) -> RwLockReadGuard<'_, Store> {
        self.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn store_mut(&self) -> RwLockWriteGuard<'_, Store> {
        self.store.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn replication(&self) -> MutexGuard<'_, Replication> {
        self.replication.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the position of the last applied entry.
    pub(crate) fn applied(&self) -> Option<LogId> {
        self.replication().applied
    }

    /// Returns the members, and those that were removed, as of one applied entry.
    pub(crate) fn membership(&self) -> (StoredMembership, Arc<BTreeSet<u64>>) {
        let replication = self.replication();
        (replication.membership.clone(), Arc::clone(&replication.removed))
    }

    /// Whether a member votes, `None` when it does not belong to the cluster.
    pub(crate) fn is_voter(&self, member_id: u64) -> Option<bool> {
        let replication = self.replication();
        let membership = replication.membership.membership();
        membership.get_node(&member_id).map(|_| is_voter(membership, member_id))
    }

    /// Whether a member was removed from the cluster, as far as this one knows.
    pub(crate) fn has_removed(&self, member_id: u64) -> bool {
        self.replication().removed.contains(&member_id)
    }

    /// Notes that a member was removed, as others have applied it; durable on return. Who is out is sent no more entries, and would
    /// have to ask again at each start.
    pub(crate) async fn note_removed(&self, member_id: u64) -> Result<(), EngineError> {
        let engine = {
            let mut store = self.store_mut();
            let mut replication = self.replication();
            Arc::make_mut(&mut replication.removed).insert(member_id);
            put_removed(&mut store, &replication);
            store.commit()?;
            Arc::clone(store.engine())
        };
        self.env.blocking(move || engine.flush()).await
    }

    /// Returns a receiver of the place of the last applied entry. Observers have heard of that entry before.
    pub(crate) fn watch_applied(&self) -> watch::Receiver<Option<LogId>> {
        self.applied_id.subscribe()
    }

    pub(crate) fn env(&self) -> &Env {
        &self.env
    }

    /// Returns the feature levels that this member can be at.
    pub(crate) fn levels(&self) -> Levels {
        self.levels
    }

    /// Returns what a snapshot of the present state is named. Hold the store's lock for it to stay true.
    pub(crate) fn snapshot_meta(&self) -> SnapshotMeta {
        self.replication().snapshot_meta()
    }

    /// Returns what this member held at a comparison, if it has applied that one since its start.
    pub(crate) fn noted(&self, index: u64) -> Option<u128> {
        self.comparisons().noted.get(&index).copied()
    }

    /// Returns the last comparison that this member has applied, and what it held then.
    pub(crate) fn last_noted(&self) -> Option<(u64, u128)> {
        self.comparisons().noted.last_key_value().map(|(index, digest)| (*index, *digest))
    }

    /// Returns the entry at which a member's state was found to differ from that of a majority.
    pub(crate) fn differed_at(&self, member: u64) -> Option<u64> {
        self.comparisons().odd.filter(|(odd, _)| *odd == member).map(|(_, index)| index)
    }

    fn comparisons(&self) -> MutexGuard<'_, Comparisons> {
        self.comparisons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the name of the last state that is known to be durable.
    fn durable(&self) -> Option<SnapshotMeta> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that a state is durable. A later one, taken over from another member meanwhile, stays noted.
    pub(crate) fn set_durable(&self, meta: &SnapshotMeta) {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if durable.as_ref().is_none_or(|noted| noted.last_log_id < meta.last_log_id) {
            *durable = Some(meta.clone());
        }
    }

    /// Makes what is applied durable. The index is saved along with it when enough has changed since it was last.
    pub(crate) fn flush(&self) -> Result<(), EngineError> {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let (engine, is_due) = {
            let store = self.store();
            (Arc::clone(store.engine()), is_due(*saved, &store))
        };
        if is_due { self.save_index(&mut saved) } else { engine.flush() }
    }

    /// Makes what is applied durable, and the next start fast.
    pub(crate) fn flush_with_index(&self) -> Result<(), EngineError> {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let (engine, is_saved) = {
            let store = self.store();
            (Arc::clone(store.engine()), *saved == Some(store.rows_added()))
        };
        if is_saved { engine.flush() } else { self.save_index(&mut saved) }
    }

    fn save_index(&self, saved: &mut Option<u64>) -> Result<(), EngineError> {
        let now = self.store().rows_added();
        match saved_index::flush(self)? {
            // A disk that fails now is not asked again at every flush.
            Saving::Done | Saving::Failed => *saved = Some(now),
            Saving::Interrupted => {}
        }
        Ok(())
    }

    /// Removes some rows that nobody can read any more. Blocks its thread; others wait for the removal alone.
    pub(crate) fn collect(&self) -> Collection {
        self.collect_rows().unwrap_or_else(|error| {
            machine_failed(self, &error);
            Collection::Finished
        })
    }

    fn collect_rows(&self) -> Result<Collection, EngineError> {
        let Some(uncollected) = self.store().uncollected() else { return Ok(Collection::Finished) };
        let mut piece = uncollected.read(COLLECT_READ_ROWS)?;
        loop {
            let mut store = self.store_mut();
            let collection = store.collect_piece(&mut piece, COLLECT_STEP_ROWS);
            store.commit()?;
            drop(store);
            if piece.is_empty() {
                return Ok(collection);
            }
            // Whoever waited for the store goes first.
            std::thread::yield_now();
        }
    }

    fn apply_batch(&self, batch: Vec<EntryResponder<TypeConfig>>) -> Result<(), EngineError> {
        let began = Instant::now();
        let mut outcome = Outcome::new(began);
        {
            let mut store = self.store_mut();
            let mut replication = self.replication().clone();
            let level = store.level();
            for (entry, responder) in batch {
                outcome.add(&mut store, &mut replication, entry, responder)?;
            }
            self.follow_level(level, store.level())?;
            outcome.put_records(&mut store, &replication);
            let committing = Instant::now();
            store.commit()?;
            self.env.counters().commit_seconds.observe(committing.elapsed().as_secs_f64());
            *self.replication() = replication;
        }
        std::mem::take(&mut outcome.compared)
            .into_iter()
            .for_each(|compared| self.comparisons().add(compared));
        if began.elapsed() > SLOW_AFTER {
            self.env.counters().slow_applies.inc();
        }
        self.announce(outcome);
        Ok(())
    }

    /// Stops at a level that this member does not support: what comes behind it may mean something else.
    fn follow_level(&self, before: Level, now: Level) -> Result<(), EngineError> {
        if now != before {
            self.levels.check(now)?;
            tracing::info!(level = now.0, before = before.0, "the feature level was raised");
        }
        Ok(())
    }

    /// Tells everyone about applied entries, in log order.
    fn announce(&self, outcome: Outcome) {
        for entry in outcome.entries {
            self.observer.applied(entry);
        }
        self.applied_id.send_replace(self.applied());
        for (responder, reply) in outcome.replies {
            responder.send(reply);
        }
    }

    /// Replaces the whole state by that of a staged engine.
    pub(super) fn adopt(&self, staged: Staged, meta: &SnapshotMeta) -> Result<(), EngineError> {
        self.levels.check(stored_level(&**staged.engine())?)?;
        // Opening checks every row against the digest that was agreed in the log (safety rule 8).
        let store = Store::open(Arc::clone(staged.engine()))?;
        let replication = read_replication(&store)?;
        if replication.applied != meta.last_log_id {
            return Err(corrupt("a snapshot holds another position than its name says"));
        }
        // An index that is being saved is of the old engine and must not end up beside the new one.
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        self.env.engines.promote(staged)?;
        *saved = None;
        self.set_durable(meta);
        let mut current = self.store_mut();
        self.follow_level(current.level(), store.level())?;
        *current = store;
        *self.replication() = replication;
        // What was noted was of another state.
        *self.comparisons() = Comparisons::default();
        self.observer.replaced(&current);
        drop(current);
        self.applied_id.send_replace(self.applied());
        Ok(())
    }
}

impl StoreAccess for Machine {
    fn with_store(&self, read: &mut dyn FnMut(&Store)) {
        read(&self.store());
    }
}

struct Outcome {
    began: Instant,
    entries: Vec<AppliedEntry>,
    replies: Vec<(ApplyResponder<TypeConfig>, Reply)>,
    membership_changed: bool,
    compared: Vec<Compared>,
}

impl Outcome {
    fn new(began: Instant) -> Self {
        Self {
            began,
            entries: Vec::new(),
            replies: Vec::new(),
            membership_changed: false,
            compared: Vec::new(),
        }
    }

    fn add(
        &mut self,
        store: &mut Store,
        replication: &mut Replication,
        entry: Entry,
        responder: Option<ApplyResponder<TypeConfig>>,
    ) -> Result<(), EngineError> {
        let log_id = entry.log_id();
        assert!(
            replication.applied.is_none_or(|applied| applied.index() < log_id.index()),
            "entries are applied in order and once"
        );
        let mut reply = Reply::default();
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(proposal) => {
                let command =
                    decode_command(proposal.command).map_err(|error| corrupt(&error.to_string()))?;
                let applied = match &command {
                    Command::RaiseLevel(raised) if !speaks_for(raised, &replication.membership) => {
                        unchanged(store)
                    }
                    command => store.apply(command)?,
                };
                if let Command::CompareStates(comparison) = &command {
                    let (verdict, of) = (comparison.verdict(), comparison.index);
                    self.compared.push(Compared {
                        index: log_id.index(),
                        digest: store.digest(),
                        verdict,
                        of,
                    });
                }
                let place = Place { index: log_id.index(), began: self.began };
                reply = Reply { answer: Some(applied.answer.clone()), place: Some(place) };
                let leases = LeaseChange::of(&command, &applied, store);
                let sessions = match applied.answer {
                    Ok(_) => SessionChange::of(&command, store.auth()),
                    Err(_) => SessionChange::None,
                };
                let (origin, request_id) = (proposal.origin, proposal.request_id);
                self.entries.push(AppliedEntry { origin, request_id, place, applied, leases, sessions });
            }
            EntryPayload::Membership(membership) => {
                let before = replication.membership.nodes().map(|(id, _)| *id);
                let gone = before.filter(|id| membership.get_node(id).is_none());
                let removed: BTreeSet<u64> = replication.removed.iter().copied().chain(gone).collect();
                replication.removed = Arc::new(removed);
                replication.membership = StoredMembership::new(Some(log_id), membership);
                self.membership_changed = true;
            }
        }
        replication.applied = Some(log_id);
        self.replies.extend(responder.map(|responder| (responder, reply)));
        Ok(())
    }

    fn put_records(&self, store: &mut Store, replication: &Replication) {
        let applied = wire::WalPosition { id: replication.applied.map(convert::log_id_to_wire) };
        store.put_replication_record(APPLIED_RECORD, applied.encode_to_vec());
        if self.membership_changed {
            let stored = convert::stored_membership_to_wire(&replication.membership);
            store.put_replication_record(MEMBERSHIP_RECORD, stored.encode_to_vec());
            put_removed(store, replication);
        }
    }
}

/// Whether every member of the cluster, as of this entry, has said that it supports the level.
fn speaks_for(raised: &RaiseLevel, membership: &StoredMembership) -> bool {
    membership.nodes().all(|(id, _)| raised.members.contains(id))
}

fn unchanged(store: &Store) -> Applied {
    Applied { answer: Ok(Answer::Done), revision: store.current_revision(), events: Vec::new() }
}

fn put_removed(store: &mut Store, replication: &Replication) {
    let removed = wire::RemovedMembers { ids: replication.removed.iter().copied().collect() };
    store.put_replication_record(REMOVED_RECORD, removed.encode_to_vec());
}

fn read_replication(store: &Store) -> Result<Replication, EngineError> {
    let applied = match store.replication_record(APPLIED_RECORD)? {
        Some(bytes) => wire::WalPosition::decode(bytes).map_err(|error| corrupt(&error.to_string()))?.id,
        None => None,
    };
    let membership = match store.replication_record(MEMBERSHIP_RECORD)? {
        Some(bytes) => {
            let stored =
                wire::StoredMembership::decode(bytes).map_err(|error| corrupt(&error.to_string()))?;
            convert::stored_membership(stored).map_err(|error| corrupt(&error.to_string()))?
        }
        None => StoredMembership::default(),
    };
    let removed = match store.replication_record(REMOVED_RECORD)? {
        Some(bytes) => wire::RemovedMembers::decode(bytes).map_err(|error| corrupt(&error.to_string()))?.ids,
        None => Vec::new(),
    };
    let removed = Arc::new(removed.into_iter().collect());
    Ok(Replication { applied: applied.map(convert::log_id), membership, removed })
}

fn corrupt(reason: &str) -> EngineError {
    EngineError::Corrupt { key: "replication".to_owned(), reason: reason.to_owned() }
}

/// Ends the member: applied state must not be guessed.
pub(crate) fn machine_failed(machine: &Machine, error: &EngineError) -> io::Error {
    machine.env.fatal(&format!("cannot apply: {}", crate::env::error_chain(error)));
    io::Error::other(error.to_string())
}

/// The handle that openraft owns.
pub(crate) struct StateMachine {
    pub(crate) machine: Arc<Machine>,
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let replication = self.machine.replication();
        Ok((replication.applied, replication.membership.clone()))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batches = entries.ready_chunks(APPLY_BATCH_MAX);
        while let Some(batch) = batches.next().await {
            let batch = batch.into_iter().collect::<Result<Vec<_>, _>>()?;
            let applied = self.machine.env.aside(|| self.machine.apply_batch(batch));
            applied.map_err(|error| machine_failed(&self.machine, &error))?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        let _store = self.machine.store();
        SnapshotBuilder { machine: Arc::clone(&self.machine), meta: self.machine.snapshot_meta() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: SnapshotData) -> Result<(), io::Error> {
        let staged = match data {
            SnapshotData::Staged(engine) => engine,
            SnapshotData::Local(source) => copy(&self.machine, &source).await?,
        };
        let adopted = self.machine.env.aside(|| self.machine.adopt(staged, meta));
        adopted.map_err(|error| machine_failed(&self.machine, &error))?;
        self.machine.env.counters().snapshots_installed.inc();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf>, io::Error> {
        Ok(self
            .machine
            .durable()
            .map(|meta| SnapshotOf { meta, snapshot: SnapshotData::Local(Arc::clone(&self.machine)) }))
    }
}

/// Copies the state of another machine in this process into a staged engine.
async fn copy(machine: &Machine, source: &Arc<Machine>) -> io::Result<Staged> {
    let staged = machine.env.engines.stage().map_err(io::Error::other)?;
    let mut export = snapshot::export(source).await?;
    while let Some(chunk) = export.chunks.recv().await {
        let chunk = chunk.map_err(io::Error::other)?;
        mvcc::snapshot::import(&**staged.engine(), chunk).map_err(io::Error::other)?;
    }
    staged.engine().flush().map_err(io::Error::other)?;
    Ok(staged)
}
