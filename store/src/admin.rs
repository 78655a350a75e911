//! What the etcd edge needs besides keys: members, sizes, maintenance. Implemented by a raft member and by the store in
//! memory.

use crate::backup::Spooled;
use crate::kv::KvError;
use crate::metrics::Counters;
use crate::mvcc::{Alarm, Downgrade, Revision};

/// One member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberInfo {
    pub id: u64,
    /// Empty until the member has started once.
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    pub is_learner: bool,
}

/// A member that was just added, and all members with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddedMember {
    pub member: MemberInfo,
    pub members: Vec<MemberInfo>,
}

/// Numbers about this member that are not part of the replicated state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberNumbers {
    /// Bytes on disk.
    pub db_size_bytes: u64,
    /// Bytes that rows take before compression: live data and its history.
    pub db_size_in_use_bytes: u64,
    /// Most that rows may take; 0 when there is no quota.
    pub quota_bytes: u64,
    /// Free bytes of the disk with the log, and how many of them are a reserve.
    pub disk_free_bytes: u64,
    pub disk_reserve_bytes: u64,
    /// About how much memory the index of keys takes, without cached values.
    pub index_bytes: u64,
    /// Feature level that the members have agreed on; 0 where there are none.
    pub level: u32,
    /// Last entry in this member's log.
    pub last_log_index: u64,
    pub is_learner: bool,
    /// Alarms of all members, as this one knows them.
    pub alarms: Vec<Alarm>,
    /// The downgrade that was announced, as this member knows it.
    pub downgrade: Option<Downgrade>,
    /// Last entry that this member knows to be committed.
    pub committed_index: u64,
    /// Proposals of this member's clients that travel through another one.
    pub forwarded: u64,
    /// Proposals of this member's clients that have no answer yet, and their bytes.
    pub proposals: u64,
    pub proposal_bytes: u64,
    /// Requests that wait for the log.
    pub log_queue: u64,
    /// Snapshots for clients that take room on the disk.
    pub snapshots: u64,
    pub watchers: u64,
    pub leases: u64,
    /// Simple tokens that this member takes.
    pub sessions: u64,
    /// The number that grows with every change of users and roles.
    pub auth_revision: u64,
}

/// Hash of the key space up to a revision; members compare theirs when their compact revisions agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpaceHash {
    pub hash: u32,
    pub compacted: Revision,
    pub revision: Revision,
}

/// Why a member could not be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    #[error(transparent)]
    Kv(#[from] KvError),
    #[error("not implemented: {0}")]
    Unimplemented(&'static str),
    #[error("member not found")]
    MemberNotFound,
    #[error("given member URLs are invalid")]
    InvalidUrls,
    #[error("peer URLs already exist")]
    PeerUrlsExist,
    #[error("member id already exists")]
    MemberExists,
    #[error("too few started members for this change")]
    NotEnoughStarted,
    #[error("cluster is unhealthy")]
    Unhealthy,
    #[error("member is not a learner")]
    NotLearner,
    #[error("learner is not in sync with the leader")]
    LearnerNotReady,
    #[error("too many learners")]
    TooManyLearners,
    #[error("member is being replaced already")]
    BeingReplaced,
    #[error("this member does not lead")]
    NotLeader,
    #[error("member cannot lead")]
    BadLeaderTransferee,
    #[error(
        "this member joins the cluster and has not caught up with it yet: save a snapshot of another one, or try again"
    )]
    NotCaughtUp,
    #[error("no snapshot now: {0}")]
    SnapshotRefused(String),
    #[error("the snapshot failed: {0}")]
    SnapshotFailed(String),
}

/// Cluster and maintenance, as one member can do it. The default of every change is "not implemented".
#[tonic::async_trait]
pub trait Admin: Send + Sync + 'static {
    /// Returns the members; `linearizable` waits until this member knows all changes made before the call.
    async fn members(&self, linearizable: bool) -> Result<Vec<MemberInfo>, AdminError>;

    /// Returns this member's numbers, without asking anyone.
    fn numbers(&self) -> MemberNumbers;

    /// Returns what this member counts.
    fn counters(&self) -> Counters {
        Counters::default()
    }

    /// Whether this member is a learner, which answers few requests. Asked for every request.
    fn is_learner(&self) -> bool {
        false
    }

    /// Hashes the key space up to `revision`, or up to now.
    async fn hash_kv(&self, revision: Option<Revision>) -> Result<KeySpaceHash, AdminError>;

    /// Returns the alarms that are raised, linearizably.
    async fn alarms(&self) -> Result<Vec<Alarm>, AdminError>;

    /// Raises an alarm; one that is raised already stays.
    async fn raise_alarm(&self, alarm: Alarm) -> Result<(), AdminError>;

    /// Clears an alarm and returns whether it was raised.
    async fn clear_alarm(&self, alarm: Alarm) -> Result<bool, AdminError>;

    /// Returns the downgrade that was announced, linearizably.
    async fn downgrade(&self) -> Result<Option<Downgrade>, AdminError>;

    /// Announces a downgrade, which is refused while there is one, or ends it.
    async fn set_downgrade(&self, downgrade: Option<Downgrade>) -> Result<(), AdminError>;

    /// Adds a member and returns it with its new id. One that is no learner becomes a voter once it has caught up.
    async fn add_member(&self, _peer_urls: Vec<String>, _learner: bool) -> Result<AddedMember, AdminError> {
        Err(AdminError::Unimplemented("adding members"))
    }

    /// Adds a member that takes another one's vote once it has caught up, at which the other one is out for good.
    async fn replace_member(&self, _id: u64, _peer_urls: Vec<String>) -> Result<AddedMember, AdminError> {
        Err(AdminError::Unimplemented("replacing members"))
    }

    /// Removes a member for good and returns those that stay.
    async fn remove_member(&self, _id: u64) -> Result<Vec<MemberInfo>, AdminError> {
        Err(AdminError::Unimplemented("removing members"))
    }

    /// Changes a member's peer URLs and returns all members.
    async fn update_member(&self, _id: u64, _peer_urls: Vec<String>) -> Result<Vec<MemberInfo>, AdminError> {
        Err(AdminError::Unimplemented("changing members"))
    }

    /// Makes a learner a voter and returns all members.
    async fn promote_member(&self, _id: u64) -> Result<Vec<MemberInfo>, AdminError> {
        Err(AdminError::Unimplemented("promoting members"))
    }

    /// Writes this member's state, as it is now, to a file in etcd's format.
    async fn snapshot(&self) -> Result<Spooled, AdminError> {
        Err(AdminError::Unimplemented("snapshots of a store without files"))
    }

    /// Hands leadership to another member.
    async fn move_leader(&self, _target: u64) -> Result<(), AdminError> {
        Err(AdminError::Unimplemented("moving the leader"))
    }
}
