//! The store as its callers in the same process see it: one trait, served by a raft member and by an in-memory store.

use std::time::Duration;

use bytes::Bytes;
use prometheus_client::registry::Registry;

use crate::auth::AuthRefusal;
use crate::metrics;
use crate::mvcc::{
    Event, Invalid, KeyRange, LeaseId, Range, RangeResult, Refusal, Revision, TXN_OPS_MAX, Txn, TxnResult,
};

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Confirmed by a quorum after the request arrived (safety rule 12).
    Linearizable,
    /// Whatever this member has applied.
    Serializable,
}

/// Why the store refused or could not finish a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    #[error("required revision {requested} has been compacted; the oldest readable revision is {compacted}")]
    Compacted { requested: Revision, compacted: Revision },
    #[error("required revision {requested} is a future revision; the store stands at {current}")]
    FutureRevision { requested: Revision, current: Revision },
    #[error("requested lease not found")]
    LeaseNotFound,
    #[error("lease already exists")]
    LeaseExists,
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
    #[error("key is not provided")]
    EmptyKey,
    #[error("key not found")]
    KeyNotFound,
    #[error("value is provided")]
    ValueProvided,
    #[error("lease is provided")]
    LeaseProvided,
    #[error("too many operations in txn request")]
    TooManyOps,
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    #[error("request is too large")]
    RequestTooLarge,
    #[error("database space exceeded")]
    NoSpace,
    #[error("too many requests")]
    TooManyRequests,
    /// Never served by this member, unless the caller asks for less at a time.
    #[error(
        "answer takes about {needed} bytes of memory, more than the {budget} that reads may take: set a limit or use RangeStream"
    )]
    ReadTooLarge { needed: u64, budget: u64 },
    /// Safe to retry.
    #[error("other reads take the memory that reads may take: try again")]
    ReadsBusy,
    #[error("a downgrade is in progress")]
    DowngradeInProgress,
    /// Some member is of a version that cannot apply it.
    #[error("the feature level of the cluster is too low for this")]
    NotCapable,
    /// Nothing was proposed; safe to retry.
    #[error("no leader")]
    NoLeader,
    /// The request was proposed and its fate is not known; it may still commit.
    #[error("request timed out, outcome unknown")]
    OutcomeUnknown,
    /// Only for clients of the wire: callers in this process may do everything.
    #[error(transparent)]
    Auth(#[from] AuthRefusal),
    #[error("corrupt cluster")]
    Corrupt,
    #[error("server stopped")]
    Stopped,
}

/// How large a request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Bytes as the log carries it.
    pub bytes: usize,
    /// Steps of a branch, or compares, of a transaction.
    pub txn_ops: usize,
}

impl RequestLimits {
    /// Most that `bytes` may be: an entry of the log is one record, and what it says of itself comes on top.
    pub const BYTES_MAX: usize = 32 << 20;

    /// Returns the largest message to take: a little above, so that a request slightly too large gets the store's own error.
    #[must_use]
    pub fn message_bytes(&self) -> usize {
        self.bytes + 512 * 1024
    }
}

impl Default for RequestLimits {
    /// etcd's.
    fn default() -> Self {
        Self { bytes: 1_572_864, txn_ops: TXN_OPS_MAX }
    }
}

impl From<Refusal> for KvError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Compacted { requested, compacted } => Self::Compacted { requested, compacted },
            Refusal::FutureRevision { requested, current } => Self::FutureRevision { requested, current },
            Refusal::LeaseNotFound => Self::LeaseNotFound,
            Refusal::LeaseExists => Self::LeaseExists,
            Refusal::KeyNotFound => Self::KeyNotFound,
            Refusal::NoSpace => Self::NoSpace,
            Refusal::Corrupt => Self::Corrupt,
            Refusal::DowngradeInProgress => Self::DowngradeInProgress,
            Refusal::Auth(refusal) => Self::Auth(refusal),
        }
    }
}

impl From<Invalid> for KvError {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::EmptyKey => Self::EmptyKey,
            Invalid::ValueProvided => Self::ValueProvided,
            Invalid::LeaseProvided => Self::LeaseProvided,
            Invalid::TooManyOps => Self::TooManyOps,
            Invalid::DuplicateKey => Self::DuplicateKey,
        }
    }
}

/// When a watch reports progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProgressMode {
    /// After every change of the store that is not the watcher's own, runs of them merged: for caches that wait for a
    /// revision.
    #[default]
    Automatic,
    /// Only when asked through [`ProgressHandle`](crate::watch::ProgressHandle): costs nothing while other keys change.
    OnRequest,
}

/// A subscription to changes.
#[derive(Clone, Debug)]
pub struct WatchQuery {
    pub range: KeyRange,
    /// First revision wanted; `None` starts after the current one.
    pub start: Option<Revision>,
    pub prev_kv: bool,
    pub progress: ProgressMode,
}

impl WatchQuery {
    /// Returns a watch of what happens to `range` from now on, without previous values.
    #[must_use]
    pub fn new(range: KeyRange) -> Self {
        Self { range, start: None, prev_kv: false, progress: ProgressMode::Automatic }
    }
}

/// What a watch delivers. Events of one revision are never split over two items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchItem {
    /// All matching events of one or more whole revisions, in order; `revision` is the last one.
    Events { revision: Revision, events: Vec<Event> },
    /// Every matching event up to this revision has been delivered.
    Progress(Revision),
}

/// Items of a watch, as a stream; ends after the first error (`Compacted` when the watcher fell behind a compaction).
pub type WatchStream = crate::watch::Watcher;

/// What this member knows about its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvStatus {
    pub member_id: u64,
    pub cluster_id: u64,
    /// 0 without a leader.
    pub leader_id: u64,
    pub term: u64,
    pub applied_index: u64,
    pub revision: Revision,
    pub compact_revision: Revision,
    /// The compaction up to which this member has removed what nobody can read any more.
    pub collected_revision: Revision,
    /// How long ago this member was last in confirmed contact with a leader (0 on a leader with quorum).
    pub leader_silence: Duration,
}

/// Who answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Responder {
    pub cluster_id: u64,
    pub member_id: u64,
    pub term: u64,
}

/// A lease as granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseGranted {
    pub id: LeaseId,
    pub ttl: Duration,
}

impl LeaseGranted {
    pub(crate) fn new(id: LeaseId, ttl_seconds: i64) -> Self {
        Self { id, ttl: Duration::from_secs(u64::try_from(ttl_seconds).unwrap_or(0)) }
    }
}

/// The replicated key-value store.
///
/// Every method may be called on any member. Writes are acknowledged after a quorum has them on disk. A write that
/// ends in [`KvError::OutcomeUnknown`] may have happened.
#[tonic::async_trait]
pub trait Kv: Send + Sync + 'static {
    /// Reads a range.
    async fn range(&self, range: Range, consistency: Consistency) -> Result<RangeResult, KvError>;

    /// Runs a transaction at one revision.
    async fn txn(&self, txn: Txn) -> Result<TxnResult, KvError>;

    /// Forgets history below `revision`; reads below it then fail with [`KvError::Compacted`].
    async fn compact(&self, revision: Revision) -> Result<(), KvError>;

    /// Subscribes to changes. Cancel by dropping the stream.
    async fn watch(&self, query: WatchQuery) -> Result<WatchStream, KvError>;

    /// Confirms leadership with a quorum and returns a revision at least as new as every write acknowledged before
    /// the call; this member has applied it on return.
    async fn read_index(&self) -> Result<Revision, KvError>;

    /// Grants a lease; `LeaseId::NONE` lets the store pick the id.
    async fn lease_grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseGranted, KvError>;

    /// Renews a lease and returns its full time to live.
    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration, KvError>;

    /// Ends a lease and deletes its keys at one revision.
    async fn lease_revoke(&self, id: LeaseId) -> Result<(), KvError>;

    /// Returns the keys of a lease with its remaining and granted time to live.
    async fn lease_time_to_live(&self, id: LeaseId) -> Result<(Duration, Duration, Vec<Bytes>), KvError>;

    /// Returns the ids of all leases this member knows, in order.
    async fn leases(&self) -> Result<Vec<LeaseId>, KvError>;

    /// Returns what this member knows about its cluster, without asking anyone.
    fn status(&self) -> KvStatus;

    /// Adds what this store tells of itself to the metrics of its process, under etcd's names.
    fn register_metrics(&self, registry: &mut Registry) {
        metrics::register_status(registry, &self.status());
    }

    /// Returns who answers, for the header of every response. Never waits for what is being applied.
    fn responder(&self) -> Responder {
        let KvStatus { cluster_id, member_id, term, .. } = self.status();
        Responder { cluster_id, member_id, term }
    }

    /// Returns how large a request may be.
    fn limits(&self) -> RequestLimits {
        RequestLimits::default()
    }
}
