//! A store of one member in memory: the real core, hub and lease rules without log, disk or peers. For tests of what stands
//! on the store, and the fake beside the trait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, AdminError, KeySpaceHash, MemberInfo, MemberNumbers};
use crate::auth::{SessionChange, TOKEN_TTL};
use crate::engine::{Engine, EngineError, MemoryEngine};
use crate::guarded::{Guarded, Sessions};
use crate::kv::{Consistency, Kv, KvError, KvStatus, LeaseGranted, WatchQuery, WatchStream};
use crate::lease::{ExpiryLimits, LeaseChange, Primary, Renewal, granted_ttl_seconds};
use crate::level::{Level, RaiseLevel};
use crate::mvcc::{
    Alarm, Answer, Collection, Command, Downgrade, LeaseId, Range, RangeResult, Revision, Store, TXN_OPS_MAX,
    Txn, TxnResult,
};
use crate::watch::{Hub, StoreAccess};

/// The member id that this store reports; any fixed number serves.
const MEMBER_ID: u64 = 1;
const CLUSTER_ID: u64 = 1;
/// As a member with default settings would use for the least time to live.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(1);
/// How often leases are looked at.
const LEASE_TICK: Duration = Duration::from_millis(500);
/// Rows looked at per step of a collection.
const COLLECT_ROWS: usize = 1000;

/// A store in memory. Clones share the state; leases are kept by a task that ends with the last clone.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    _lease_task: Arc<LeaseTask>,
}

struct Shared {
    store: RwLock<Store>,
    hub: Arc<Hub>,
    leases: Mutex<Leases>,
    sessions: Sessions,
    started: Instant,
}

#[derive(Default)]
struct Leases {
    primary: Primary,
    /// Commands applied, standing in for the log index.
    applied: u64,
    last_id: i64,
}

/// Ends the lease task when the store goes.
struct LeaseTask {
    stop: CancellationToken,
    _tasks: JoinSet<()>,
}

impl Drop for LeaseTask {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl MemoryStore {
    /// Returns an empty store. Must be called within a tokio runtime.
    #[must_use]
    pub fn new() -> Self {
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new());
        let mut store = Store::open(engine).expect("an empty engine in memory opens");
        // Nobody of another version is there.
        let raised = RaiseLevel { level: Level::HIGHEST, members: vec![MEMBER_ID] };
        let _done = store.apply(&Command::RaiseLevel(raised)).expect("an engine in memory does not fail");
        let hub = Arc::new(Hub::new(store.current_revision()));
        let mut leases = Leases::default();
        leases.primary.promote(Duration::ZERO, Duration::ZERO, []);
        let shared = Arc::new(Shared {
            store: RwLock::new(store),
            hub,
            leases: Mutex::new(leases),
            sessions: Sessions::new(TOKEN_TTL),
            started: Instant::now(),
        });
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(expire_leases(Arc::clone(&shared), stop.clone()));
        Self { shared, _lease_task: Arc::new(LeaseTask { stop, _tasks: tasks }) }
    }

    /// Returns the digest of the state, for comparison in tests.
    #[must_use]
    pub fn digest(&self) -> u128 {
        self.shared.store.read().unwrap_or_else(PoisonError::into_inner).digest()
    }

    /// Returns the hub, for tests of what is open on it.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.shared.hub
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

async fn expire_leases(shared: Arc<Shared>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(LEASE_TICK);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        shared.expire();
    }
}

/// Removes all rows that a compaction has made unreadable.
fn collect_all(store: &mut Store) {
    let mut collection = Collection::MoreToDo;
    while collection == Collection::MoreToDo {
        collection = store.collect(COLLECT_ROWS).expect("an engine in memory does not fail");
        store.commit().expect("an engine in memory does not fail");
    }
}

impl Shared {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expire(&self) {
        let expired = self.leases().primary.take_expired(self.now(), ExpiryLimits::default());
        if !expired.is_empty() {
            let ended = self.apply(&Command::LeaseExpire { leases: expired.clone() });
            if ended.is_err() {
                // An alarm forbids it for now.
                self.leases().primary.retry(&expired);
            }
        }
    }

    /// Applies one command and does all that follows from it, as a member does for an entry of the log.
    fn apply(&self, command: &Command) -> Result<Answer, KvError> {
        let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
        let applied = store.apply(command).expect("an engine in memory does not fail");
        store.commit().expect("an engine in memory does not fail");
        // Under the store's lock, so that concurrent callers publish in revision order.
        let change = LeaseChange::of(command, &applied, &store);
        self.hub.publish(applied.events);
        let answer = applied.answer?;
        let command = match command {
            Command::Guarded { command, .. } => command,
            other => other,
        };
        {
            let mut leases = self.leases();
            leases.applied += 1;
            leases.primary.follow(self.now(), &change);
        }
        self.sessions.follow(SessionChange::of(command, store.auth()));
        if let Command::Compact { .. } = command {
            collect_all(&mut store);
        }
        Ok(answer)
    }
}

impl StoreAccess for Shared {
    fn with_store(&self, read: &mut dyn FnMut(&Store)) {
        read(&self.store.read().unwrap_or_else(PoisonError::into_inner));
    }
}

impl StoreAccess for MemoryStore {
    fn with_store(&self, read: &mut dyn FnMut(&Store)) {
        self.shared.with_store(read);
    }
}

#[tonic::async_trait]
impl Guarded for MemoryStore {
    fn sessions(&self) -> &Sessions {
        &self.shared.sessions
    }

    async fn propose(&self, command: &Command) -> Result<Answer, KvError> {
        self.shared.apply(command)
    }

    fn grant_command(&self, id: LeaseId, ttl: Duration) -> Result<Command, KvError> {
        let ttl_seconds = granted_ttl_seconds(ttl, ELECTION_TIMEOUT)?;
        let id = if id == LeaseId::NONE {
            let store = self.shared.store.read().unwrap_or_else(PoisonError::into_inner);
            let mut leases = self.shared.leases();
            loop {
                leases.last_id += 1;
                if store.lease(LeaseId(leases.last_id)).is_none() {
                    break LeaseId(leases.last_id);
                }
            }
        } else {
            id
        };
        Ok(Command::LeaseGrant { id, ttl_seconds })
    }

    fn unguessable(&self) -> u128 {
        uuid::Uuid::new_v4().as_u128()
    }

    fn read_failed(&self, error: &EngineError) -> KvError {
        panic!("an engine in memory does not fail: {error}")
    }
}

#[tonic::async_trait]
impl Kv for MemoryStore {
    async fn range(&self, range: Range, _consistency: Consistency) -> Result<RangeResult, KvError> {
        range.range.validate()?;
        let store = self.shared.store.read().unwrap_or_else(PoisonError::into_inner);
        Ok(store.range(&range).expect("an engine in memory does not fail")?)
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, KvError> {
        txn.validate(TXN_OPS_MAX)?;
        match self.shared.apply(&Command::Txn(txn))? {
            Answer::Txn(result) => Ok(result),
            Answer::LeaseGranted { .. } | Answer::AlarmCleared { .. } | Answer::Done => Err(KvError::Corrupt),
        }
    }

    async fn compact(&self, revision: Revision) -> Result<(), KvError> {
        self.shared.apply(&Command::Compact { revision }).map(|_| ())
    }

    async fn watch(&self, query: WatchQuery) -> Result<WatchStream, KvError> {
        self.shared.hub.watch(query, Arc::<Shared>::clone(&self.shared))
    }

    async fn read_index(&self) -> Result<Revision, KvError> {
        Ok(self.status().revision)
    }

    async fn lease_grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseGranted, KvError> {
        match self.shared.apply(&self.grant_command(id, ttl)?)? {
            Answer::LeaseGranted { id, ttl_seconds } => Ok(LeaseGranted::new(id, ttl_seconds)),
            Answer::Txn(_) | Answer::AlarmCleared { .. } | Answer::Done => Err(KvError::Corrupt),
        }
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration, KvError> {
        let renewal = self.shared.leases().primary.renew(self.shared.now(), id);
        match renewal {
            Renewal::Renewed { ttl, clear_checkpoint: _ } => Ok(ttl),
            Renewal::Expiring => {
                self.shared.expire();
                Err(KvError::LeaseNotFound)
            }
            Renewal::Unknown | Renewal::NotPrimary => Err(KvError::LeaseNotFound),
        }
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), KvError> {
        self.shared.apply(&Command::LeaseRevoke { id }).map(|_| ())
    }

    async fn lease_time_to_live(&self, id: LeaseId) -> Result<(Duration, Duration, Vec<Bytes>), KvError> {
        let store = self.shared.store.read().unwrap_or_else(PoisonError::into_inner);
        let lease = store.lease(id).ok_or(KvError::LeaseNotFound)?;
        let left = self.shared.leases().primary.remaining(self.shared.now(), id);
        let granted = Duration::from_secs(u64::try_from(lease.ttl_seconds).unwrap_or(0));
        Ok((left.ok_or(KvError::LeaseNotFound)?, granted, lease.keys.iter().cloned().collect()))
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, KvError> {
        let store = self.shared.store.read().unwrap_or_else(PoisonError::into_inner);
        Ok(store.leases().map(|lease| lease.id).collect())
    }

    fn status(&self) -> KvStatus {
        let store = self.shared.store.read().unwrap_or_else(PoisonError::into_inner);
        let applied_index = self.shared.leases().applied;
        KvStatus {
            member_id: MEMBER_ID,
            cluster_id: CLUSTER_ID,
            leader_id: MEMBER_ID,
            term: 1,
            applied_index,
            revision: store.current_revision(),
            compact_revision: store.compact_revision(),
            collected_revision: store.collected_revision(),
            leader_silence: Duration::ZERO,
        }
    }
}

#[tonic::async_trait]
impl Admin for MemoryStore {
    async fn members(&self, _linearizable: bool) -> Result<Vec<MemberInfo>, AdminError> {
        Ok(vec![MemberInfo { id: MEMBER_ID, name: "memory".to_owned(), ..MemberInfo::default() }])
    }

    fn numbers(&self) -> MemberNumbers {
        let store = self.shared.store.read().unwrap_or_else(PoisonError::into_inner);
        let applied = self.shared.leases().applied;
        MemberNumbers {
            db_size_bytes: store.engine().size_bytes(),
            db_size_in_use_bytes: store.row_bytes().all,
            index_bytes: store.index_bytes(),
            level: store.level().0,
            alarms: store.alarms().collect(),
            downgrade: store.downgrade().cloned(),
            last_log_index: applied,
            committed_index: applied,
            watchers: count(self.shared.hub.watcher_count()),
            leases: count(store.lease_count()),
            sessions: count(self.shared.sessions.count()),
            auth_revision: store.auth().revision(),
            ..MemberNumbers::default()
        }
    }

    async fn hash_kv(&self, revision: Option<Revision>) -> Result<KeySpaceHash, AdminError> {
        let store = self.shared.store.read().unwrap_or_else(PoisonError::into_inner);
        let hash = store.hash_rows(revision).expect("an engine in memory does not fail");
        let hash = hash.map_err(KvError::from)?;
        let revision = revision.unwrap_or_else(|| store.current_revision());
        Ok(KeySpaceHash { hash, compacted: store.compact_revision(), revision })
    }

    async fn alarms(&self) -> Result<Vec<Alarm>, AdminError> {
        let store = self.shared.store.read().unwrap_or_else(PoisonError::into_inner);
        Ok(store.alarms().collect())
    }

    async fn raise_alarm(&self, alarm: Alarm) -> Result<(), AdminError> {
        self.shared.apply(&Command::AlarmRaise(alarm))?;
        Ok(())
    }

    async fn clear_alarm(&self, alarm: Alarm) -> Result<bool, AdminError> {
        let answer = self.shared.apply(&Command::AlarmClear(alarm))?;
        Ok(answer == Answer::AlarmCleared { was_raised: true })
    }

    async fn downgrade(&self) -> Result<Option<Downgrade>, AdminError> {
        let store = self.shared.store.read().unwrap_or_else(PoisonError::into_inner);
        Ok(store.downgrade().cloned())
    }

    async fn set_downgrade(&self, downgrade: Option<Downgrade>) -> Result<(), AdminError> {
        self.shared.apply(&Command::SetDowngrade(downgrade))?;
        Ok(())
    }
}
