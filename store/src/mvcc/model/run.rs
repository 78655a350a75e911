//! Runs a program on the store, its hub and its lease clocks, with the model beside them.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Arc, RwLock, RwLockWriteGuard};
use std::time::Duration;

use super::clocks::Clocks;
use super::program::Step;
use super::reference::Reference;
use super::watching::{Looked, Watching};
use crate::engine::{Engine, MemoryEngine};
use crate::kv::{KvError, WatchQuery};
use crate::lease::{ExpiryLimits, LeaseChange, Primary, Renewal};
use crate::mvcc::meta::META_PREFIX;
use crate::mvcc::row::ROW_KEY_BYTES;
use crate::mvcc::{
    Answer, Collection, Command, EventKind, HistoryLimits, KeyRange, LeaseId, LeaseRemaining, Piece, Range,
    Refusal, Revision, RevisionEvents, Row, RowBytes, RowId, Store, Txn, snapshot,
};
use crate::watch::{Hub, Limits, StoreAccess};
use crate::wire::{decode_answer, decode_command, encode_answer, encode_command};

/// So little that watches fall behind all the time.
const HUB: Limits = Limits {
    ring_bytes_max: 2000,
    queue_revisions_max: 4,
    queue_bytes_max: 1500,
    take_revisions_max: 3,
    take_bytes_max: 800,
};
/// Most watches at a time.
const WATCHES_MAX: usize = 4;
/// Every so many commands, one is carried through its stored form, as by the log.
const CARRIED_EVERY: usize = 4;
/// What a new primary adds to all times.
const EXTEND_SECONDS: u64 = 3;
const EXPIRY: ExpiryLimits = ExpiryLimits { leases_max: 2 };

/// The store as watches borrow it.
struct Shared {
    store: RwLock<Store>,
}

impl StoreAccess for Shared {
    fn with_store(&self, read: &mut dyn FnMut(&Store)) {
        read(&self.store.read().unwrap());
    }
}

pub(super) struct Run {
    engine: MemoryEngine,
    shared: Arc<Shared>,
    hub: Arc<Hub>,
    primary: Primary,
    reference: Reference,
    clocks: Clocks,
    now: u64,
    watches: Vec<Watching>,
    /// Applied and not yet committed.
    unpublished: Vec<RevisionEvents>,
    commands: usize,
    /// What is collected next.
    piece: Option<Piece>,
}

impl Run {
    pub(super) fn new() -> Self {
        let engine = MemoryEngine::new();
        let store = Store::open(Arc::new(engine.clone())).unwrap();
        let mut primary = Primary::new();
        primary.promote(Duration::ZERO, Duration::ZERO, []);
        Self {
            engine,
            hub: Arc::new(Hub::with_limits(store.current_revision(), HUB)),
            shared: Arc::new(Shared { store: RwLock::new(store) }),
            primary,
            reference: Reference::new(),
            clocks: Clocks::default(),
            now: 0,
            watches: Vec::new(),
            unpublished: Vec::new(),
            commands: 0,
            piece: None,
        }
    }

    pub(super) fn store(&self) -> RwLockWriteGuard<'_, Store> {
        self.shared.store.write().unwrap()
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&Store) -> T) -> T {
        read(&self.shared.store.read().unwrap())
    }

    fn now(&self) -> Duration {
        Duration::from_secs(self.now)
    }

    pub(super) fn run(mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Apply(command) => {
                    let _refused = self.apply(command);
                }
                other => {
                    self.commit();
                    self.step(other);
                }
            }
        }
        self.reopen();
        self.check_collected();
        while let Some(mut watching) = self.watches.pop() {
            watching.look(&self.reference);
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Apply(_) | Step::Commit => {}
            Step::Range(range) => self.check_range(range),
            Step::History { range, from, rows_max } => self.check_history(range, *from, *rows_max),
            Step::Leases => self.check_leases(),
            Step::KeepAlive(id) => self.keep_alive(*id),
            Step::Wait { seconds, reaches_log } => self.wait(*seconds, *reaches_log),
            Step::NewPrimary => self.new_primary(),
            Step::Watch { range, start, prev_kv, progress } => self.watch(WatchQuery {
                range: range.clone(),
                start: *start,
                prev_kv: *prev_kv,
                progress: *progress,
            }),
            Step::Look(place) => self.look(*place),
            Step::AskProgress(place) => {
                if let Some(watching) = self.watches.get_mut(*place) {
                    watching.ask_progress();
                }
            }
            Step::EndWatch(place) => {
                if *place < self.watches.len() {
                    self.watches.remove(*place);
                }
            }
            Step::Collect { rows_max } => {
                // Read at the last such step: anything may have happened since.
                if let Some(mut piece) = self.piece.take() {
                    let _more = self.store().collect_piece(&mut piece, usize::MAX);
                    self.commit();
                }
                let uncollected = self.store().uncollected();
                self.piece = uncollected.map(|rows| rows.read(*rows_max).unwrap());
                if self.piece.is_some() {
                    assert!(self.reference.compacted() > Revision::NEVER_COMPACTED);
                }
            }
            Step::Reopen => self.reopen(),
            Step::Install(ahead) => self.install(ahead),
        }
        assert_eq!(self.hub.watcher_count(), self.watches.len());
    }

    /// Applies a command to both; returns whether it was refused.
    pub(super) fn apply(&mut self, command: &Command) -> Result<(), Refusal> {
        self.commands += 1;
        let is_carried = self.commands.is_multiple_of(CARRIED_EVERY);
        let carried = is_carried.then(|| decode_command(encode_command(command)).unwrap());
        let command = carried.as_ref().unwrap_or(command);
        let mut store = self.store();
        let applied = store.apply(command).unwrap();
        let change = LeaseChange::of(command, &applied, &store);
        drop(store);
        let expected = self.reference.apply(command);
        assert_eq!(applied, expected, "{command:?}");
        if is_carried {
            let carried = decode_answer(encode_answer(&applied.answer, applied.revision)).unwrap();
            assert_eq!((&carried.0, carried.1), (&applied.answer, applied.revision));
        }
        self.unpublished.extend(applied.events);
        self.primary.follow(Duration::from_secs(self.now), &change);
        if change != LeaseChange::None {
            self.clocks.follow(self.now, self.reference.leases());
        }
        if let Command::Txn(txn) = command {
            self.check_read_txn(txn, &expected.answer);
        }
        expected.answer.map(|_| ())
    }

    /// A transaction without writes is answered without the log too, in the same way.
    fn check_read_txn(&self, txn: &Txn, expected: &Result<Answer, Refusal>) {
        if txn.is_read_only() && self.unpublished.is_empty() {
            let read = self.read(|store| store.read_txn(txn).unwrap());
            assert_eq!(&read.map(Answer::Txn), expected, "{txn:?}");
        }
    }

    /// Commits a batch and publishes its events.
    pub(super) fn commit(&mut self) {
        self.store().commit().unwrap();
        self.hub.publish(std::mem::take(&mut self.unpublished));
    }

    fn check_range(&self, range: &Range) {
        let expected = self.reference.range(range);
        assert_eq!(self.read(|store| store.range(range).unwrap()), expected, "{range:?}");
    }

    /// The past is what was published, but for the values before it that a compaction removed.
    fn check_history(&self, range: &KeyRange, from: Revision, rows_max: usize) {
        let limits = HistoryLimits { rows_max, bytes_max: 1 << 20 };
        let mut next = from;
        let mut replayed = Vec::new();
        while next <= self.reference.current() {
            match self.read(|store| store.history(range, next, limits).unwrap()) {
                Ok(history) => {
                    assert!(history.through >= next && history.through <= self.reference.current());
                    replayed.extend(history.revisions.into_iter().flat_map(|revision| revision.events));
                    next = history.through.next();
                }
                Err(refusal) => {
                    let compacted = self.reference.compacted();
                    assert_eq!(refusal, Refusal::Compacted { requested: next, compacted });
                    assert!(next == from && next < compacted);
                    return;
                }
            }
        }
        let expected = self.reference.published(range, from).cloned().map(|mut event| {
            event.prev = event.prev.filter(|prev| !self.reference.is_lost(prev));
            event
        });
        assert_eq!(replayed, expected.collect::<Vec<_>>(), "history of {range:?} from {from}");
    }

    fn check_leases(&self) {
        self.read(|store| assert!(store.leases().cloned().eq(self.reference.leases())));
        for lease in self.reference.leases() {
            let remaining = self.primary.remaining(self.now(), lease.id);
            assert_eq!(remaining, self.clocks.remaining(self.now, lease.id), "{lease:?} at {}", self.now);
        }
    }

    fn keep_alive(&mut self, id: LeaseId) {
        let now = self.now();
        let renewal = self.primary.renew(now, id);
        assert_eq!(renewal, self.clocks.renew(self.now, id), "{id:?} at {}", self.now);
        if let Renewal::Renewed { clear_checkpoint: Some(lease), .. } = renewal {
            let cleared = LeaseRemaining { lease, remaining_seconds: None };
            self.apply(&Command::LeaseCheckpoint { leases: vec![cleared] }).unwrap();
        }
    }

    fn wait(&mut self, seconds: u64, reaches_log: bool) {
        self.now += seconds;
        let now = self.now();
        let leases = self.primary.take_expired(now, EXPIRY);
        assert_eq!(leases, self.clocks.take_expired(self.now, EXPIRY.leases_max));
        let remaining = self.primary.take_checkpoint(now);
        assert_eq!(remaining, self.clocks.take_checkpoint(self.now));
        let ended = if reaches_log {
            self.apply(&Command::LeaseCheckpoint { leases: remaining }).unwrap();
            self.apply(&Command::LeaseExpire { leases: leases.clone() }).is_ok()
        } else {
            false
        };
        if !ended {
            self.primary.retry(&leases);
            self.clocks.retry(&leases);
        }
    }

    fn new_primary(&mut self) {
        let (now, extend) = (self.now(), Duration::from_secs(EXTEND_SECONDS));
        self.primary.demote();
        assert_eq!(self.primary.renew(now, LeaseId(1)), Renewal::NotPrimary);
        let store = self.shared.store.read().unwrap();
        self.primary.promote(now, extend, store.leases());
        drop(store);
        self.clocks.promote(self.now, EXTEND_SECONDS, self.reference.leases());
    }

    fn watch(&mut self, query: WatchQuery) {
        if self.watches.len() >= WATCHES_MAX {
            return;
        }
        let store: Arc<dyn StoreAccess> = Arc::<Shared>::clone(&self.shared);
        let (start, compacted) = (query.start, self.reference.compacted());
        match self.hub.watch(query.clone(), store) {
            Ok(watcher) => {
                assert!(start.is_none_or(|start| start >= compacted));
                self.watches.push(Watching::new(watcher, query, self.reference.current()));
            }
            Err(error) => {
                let requested = start.unwrap();
                assert_eq!(error, KvError::Compacted { requested, compacted });
                assert!(requested < compacted);
            }
        }
    }

    fn look(&mut self, place: usize) {
        let Some(watching) = self.watches.get_mut(place) else { return };
        if watching.look(&self.reference) == Looked::Ended {
            self.watches.remove(place);
        }
    }

    /// A rebuilt store equals the live one in index, leases, digest.
    pub(super) fn reopen(&mut self) {
        self.commit();
        let reopened = Store::open(Arc::new(self.engine.clone())).unwrap();
        self.replace(reopened);
    }

    /// Takes the state from another member, which has applied more commands, as a member that was away does.
    pub(super) fn install(&mut self, ahead: &[Command]) {
        self.commit();
        let staged = MemoryEngine::new();
        let flow = snapshot::export(&self.engine, &mut |chunk| {
            snapshot::import(&staged, chunk).unwrap();
            ControlFlow::Continue(())
        });
        assert_eq!(flow.unwrap(), ControlFlow::Continue(()));
        let installed = Store::open(Arc::new(staged.clone())).unwrap();
        self.engine = staged;
        self.replace(installed);
        for command in ahead {
            let _refused = self.apply(command);
        }
        self.store().commit().unwrap();
        // Nobody publishes what came with the state.
        self.unpublished.clear();
        self.hub.reset(self.reference.current());
    }

    fn replace(&mut self, other: Store) {
        {
            let mut store = self.store();
            assert_eq!(other.index.keys(), store.index.keys());
            assert_eq!(other.leases, store.leases);
            assert_eq!(other.digest(), store.digest());
            assert!(other.alarms().eq(self.reference.alarms()));
            assert_eq!(other.level(), self.reference.level());
            assert_eq!(other.downgrade(), self.reference.downgrade());
            assert_eq!(other.row_bytes(), store.row_bytes());
            *store = other;
        }
        self.check_bytes();
        self.hub.reset(self.reference.current());
    }

    /// When all is collected, the rows that are left are those that something can still read.
    fn check_collected(&mut self) {
        while self.store().collect(100).unwrap() == Collection::MoreToDo {
            self.commit();
        }
        self.commit();
        let mut left = BTreeSet::new();
        let mut add = |key: &[u8], _: &[u8]| {
            left.insert(RowId::from_key(key).unwrap());
            ControlFlow::Continue(())
        };
        self.engine.scan(b"", Some(&[META_PREFIX]), &mut add).unwrap();
        assert_eq!(left, self.reference.rows_kept());
    }

    /// What the rows are said to take is what the engine holds of them.
    fn check_bytes(&self) {
        let mut all = 0;
        let mut add = |key: &[u8], value: &[u8]| {
            all += u64::try_from(key.len() + value.len()).unwrap();
            ControlFlow::Continue(())
        };
        self.engine.scan(b"", Some(&[META_PREFIX]), &mut add).unwrap();
        let live = self.reference.space().values().map(|kv| {
            let row = Row { kind: EventKind::Put, kv: kv.clone() };
            u64::try_from(ROW_KEY_BYTES + row.encode().len()).unwrap()
        });
        let expected = RowBytes { all, live: live.sum() };
        assert_eq!(self.read(Store::row_bytes), expected);
    }
}
