//! The store's interface on top of raft.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::registry::Registry;

use super::Member;
use crate::admin::Admin;
use crate::engine::EngineError;
use crate::guarded::Guarded;
use crate::kv::{
    Consistency, Kv, KvError, KvStatus, LeaseGranted, RequestLimits, Responder, WatchQuery, WatchStream,
};
use crate::metrics::OfMember;
use crate::mvcc::{Answer, Command, LeaseId, Range, RangeResult, Revision, Txn, TxnResult};
use crate::raft::node::ProposeError;
use crate::raft::request::Request;
use crate::raft::state_machine::Machine;

impl From<ProposeError> for KvError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NoLeader => Self::NoLeader,
            ProposeError::NotCapable => Self::NotCapable,
            ProposeError::TooMany => Self::TooManyRequests,
            ProposeError::Unknown => Self::OutcomeUnknown,
        }
    }
}

impl Member {
    pub(super) async fn propose(&self, command: &Command) -> Result<Answer, KvError> {
        let request = Request::of(command);
        if request.size() > self.limits.bytes {
            return Err(KvError::RequestTooLarge);
        }
        if !self.space.admits(self.node.machine(), command, request.size()) {
            return Err(KvError::NoSpace);
        }
        Ok(self.node.propose(request, 0).await??)
    }

    /// Ends the member: what cannot be read must not be guessed.
    pub(super) fn cannot_read(&self, error: &EngineError) -> KvError {
        self.node.env().fatal(&format!("cannot read: {}", crate::env::error_chain(error)));
        KvError::Stopped
    }

    async fn confirm(&self) -> Result<(), KvError> {
        if self.node.linearize().await { Ok(()) } else { Err(KvError::NoLeader) }
    }
}

#[tonic::async_trait]
impl Kv for Member {
    async fn range(&self, range: Range, consistency: Consistency) -> Result<RangeResult, KvError> {
        range.range.validate()?;
        match consistency {
            Consistency::Linearizable => self.confirm().await?,
            Consistency::Serializable => {}
        }
        let found = self.node.machine().store().range(&range);
        match found {
            Ok(answer) => Ok(answer?),
            Err(error) => Err(self.cannot_read(&error)),
        }
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, KvError> {
        txn.validate(self.limits.txn_ops)?;
        match self.propose(&Command::Txn(txn)).await? {
            Answer::Txn(result) => Ok(result),
            Answer::LeaseGranted { .. } | Answer::AlarmCleared { .. } | Answer::Done => {
                unreachable!("a transaction is answered as one")
            }
        }
    }

    async fn compact(&self, revision: Revision) -> Result<(), KvError> {
        self.propose(&Command::Compact { revision }).await.map(|_| ())
    }

    async fn watch(&self, query: WatchQuery) -> Result<WatchStream, KvError> {
        self.hub.watch(query, Arc::<Machine>::clone(self.node.machine()))
    }

    async fn read_index(&self) -> Result<Revision, KvError> {
        self.confirm().await?;
        Ok(self.node.machine().store().current_revision())
    }

    async fn lease_grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseGranted, KvError> {
        match self.propose(&self.grant_command(id, ttl)?).await? {
            Answer::LeaseGranted { id, ttl_seconds } => Ok(LeaseGranted::new(id, ttl_seconds)),
            Answer::Txn(_) | Answer::AlarmCleared { .. } | Answer::Done => {
                unreachable!("a grant is answered as one")
            }
        }
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration, KvError> {
        let kept = self.leases.keep_alive(&self.node, id).await?;
        self.node.env().counters().leases_renewed.inc();
        Ok(kept)
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), KvError> {
        self.propose(&Command::LeaseRevoke { id }).await.map(|_| ())
    }

    async fn lease_time_to_live(&self, id: LeaseId) -> Result<(Duration, Duration, Vec<Bytes>), KvError> {
        let remaining = self.leases.time_to_live(&self.node, id).await?;
        self.confirm().await?;
        let store = self.node.machine().store();
        let lease = store.lease(id).ok_or(KvError::LeaseNotFound)?;
        let granted = Duration::from_secs(u64::try_from(lease.ttl_seconds).unwrap_or(0));
        Ok((remaining, granted, lease.keys.iter().cloned().collect()))
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, KvError> {
        self.confirm().await?;
        Ok(self.node.machine().store().leases().map(|lease| lease.id).collect())
    }

    fn responder(&self) -> Responder {
        let identity = self.node.identity();
        let (_, term) = self.node.leader();
        Responder { cluster_id: identity.cluster_id, member_id: identity.member_id, term }
    }

    fn limits(&self) -> RequestLimits {
        self.limits
    }

    fn register_metrics(&self, registry: &mut Registry) {
        let (status, numbers, counters) = (self.status(), self.numbers(), self.counters());
        OfMember { status, numbers, counters }.register(registry);
    }

    fn status(&self) -> KvStatus {
        let (leader, term) = self.node.leader();
        let identity = self.node.identity();
        let store = self.node.machine().store();
        KvStatus {
            member_id: identity.member_id,
            cluster_id: identity.cluster_id,
            leader_id: leader.unwrap_or(0),
            term,
            applied_index: self.node.machine().applied().map_or(0, |id| id.index()),
            revision: store.current_revision(),
            compact_revision: store.compact_revision(),
            collected_revision: store.collected_revision(),
            leader_silence: self.node.leader_silence(),
        }
    }
}

impl Member {
    /// Picks a lease id as etcd does: positive, never 0.
    pub(super) fn random_lease(&self) -> LeaseId {
        let random = self.node.env().random_u64() >> 1;
        LeaseId(i64::try_from(random).unwrap_or(i64::MAX).max(1))
    }
}
