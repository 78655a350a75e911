//! Cluster and maintenance on top of raft.

use std::sync::Arc;

use super::Member;
use crate::admin::{AddedMember, Admin, AdminError, KeySpaceHash, MemberInfo, MemberNumbers};
use crate::backup::{BackupError, SpoolError, Spooled};
use crate::kv::KvError;
use crate::membership::{Change, Denial, Kind, checked_urls, new_member_id};
use crate::metrics::Counters;
use crate::mvcc::{Alarm, Answer, Command, Downgrade, Revision};
use crate::raft::members::listed;
use crate::raft::reconfigure::ChangeError;

impl From<ChangeError> for AdminError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Denied(denial) => denial.into(),
            ChangeError::NoLeader => KvError::NoLeader.into(),
            ChangeError::Unknown => KvError::OutcomeUnknown.into(),
        }
    }
}

impl From<Denial> for AdminError {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::MemberNotFound | Denial::Removed => Self::MemberNotFound,
            Denial::MemberExists | Denial::OtherDirectory => Self::MemberExists,
            Denial::InvalidUrls => Self::InvalidUrls,
            Denial::UrlsExist => Self::PeerUrlsExist,
            Denial::NotEnoughStarted => Self::NotEnoughStarted,
            Denial::Unhealthy => Self::Unhealthy,
            Denial::NotLearner => Self::NotLearner,
            Denial::LearnerNotReady => Self::LearnerNotReady,
            Denial::TooManyLearners => Self::TooManyLearners,
            Denial::BeingReplaced => Self::BeingReplaced,
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl From<SpoolError> for AdminError {
    fn from(error: SpoolError) -> Self {
        let line = crate::env::error_chain(&error);
        match error {
            SpoolError::Busy | SpoolError::NoRoom { .. } | SpoolError::Backup(BackupError::NoRoom(_)) => {
                Self::SnapshotRefused(line)
            }
            // The state itself is not touched, so the member goes on.
            SpoolError::File { .. } | SpoolError::Backup(_) => Self::SnapshotFailed(line),
        }
    }
}

impl Member {
    async fn change(&self, change: Change) -> Result<Vec<MemberInfo>, AdminError> {
        Ok(listed(&self.node.change_members(&change).await?))
    }

    /// Has a new member let in by a change that is made for its id and URLs.
    async fn let_in(
        &self,
        peer_urls: &[String],
        change: impl FnOnce(u64, Vec<String>) -> Change + Send,
    ) -> Result<AddedMember, AdminError> {
        let peer_urls = checked_urls(peer_urls)?;
        let nonce = self.node.env().random_u64();
        let id = new_member_id(&peer_urls, self.node.identity().cluster_id, nonce);
        let members = self.change(change(id, peer_urls)).await?;
        let added = members.iter().find(|member| member.id == id).cloned();
        // It may have been removed again by the time of the answer.
        Ok(AddedMember { member: added.ok_or(AdminError::MemberNotFound)?, members })
    }
}

#[tonic::async_trait]
impl Admin for Member {
    async fn members(&self, linearizable: bool) -> Result<Vec<MemberInfo>, AdminError> {
        if linearizable && !self.node.linearize().await {
            return Err(KvError::NoLeader.into());
        }
        Ok(self.node.member_list())
    }

    fn numbers(&self) -> MemberNumbers {
        let store = self.node.machine().store();
        let admitted = self.node.admitted();
        MemberNumbers {
            db_size_bytes: store.engine().size_bytes(),
            db_size_in_use_bytes: store.row_bytes().all,
            index_bytes: store.index_bytes(),
            level: store.level().0,
            quota_bytes: self.space.quota_bytes(),
            disk_free_bytes: self.node.env().disk.free_space().free_bytes,
            disk_reserve_bytes: self.space.reserve_bytes(),
            last_log_index: self.node.last_log_index(),
            alarms: store.alarms().collect(),
            downgrade: store.downgrade().cloned(),
            is_learner: self.node.is_learner(),
            committed_index: self.node.committed_index(),
            forwarded: count(self.node.forwarded()),
            proposals: count(admitted.proposals),
            proposal_bytes: count(admitted.bytes),
            log_queue: count(self.node.log_queue()),
            snapshots: count(self.spool.taken()),
            watchers: count(self.hub.watcher_count()),
            leases: count(store.lease_count()),
            sessions: count(self.sessions.count()),
            auth_revision: store.auth().revision(),
        }
    }

    fn counters(&self) -> Counters {
        self.node.env().counters().clone()
    }

    fn is_learner(&self) -> bool {
        self.node.is_learner()
    }

    async fn hash_kv(&self, revision: Option<Revision>) -> Result<KeySpaceHash, AdminError> {
        let store = self.node.machine().store();
        let hash = match store.hash_rows(revision) {
            Ok(hash) => hash.map_err(KvError::from)?,
            Err(error) => {
                self.node.env().fatal(&format!("cannot read: {}", crate::env::error_chain(&error)));
                return Err(KvError::Stopped.into());
            }
        };
        let revision = revision.unwrap_or_else(|| store.current_revision());
        Ok(KeySpaceHash { hash, compacted: store.compact_revision(), revision })
    }

    async fn alarms(&self) -> Result<Vec<Alarm>, AdminError> {
        if !self.node.linearize().await {
            return Err(KvError::NoLeader.into());
        }
        Ok(self.node.machine().store().alarms().collect())
    }

    async fn raise_alarm(&self, alarm: Alarm) -> Result<(), AdminError> {
        self.propose(&Command::AlarmRaise(alarm)).await?;
        Ok(())
    }

    async fn clear_alarm(&self, alarm: Alarm) -> Result<bool, AdminError> {
        match self.propose(&Command::AlarmClear(alarm)).await? {
            Answer::AlarmCleared { was_raised } => Ok(was_raised),
            Answer::Txn(_) | Answer::LeaseGranted { .. } | Answer::Done => {
                unreachable!("clearing an alarm is answered as such")
            }
        }
    }

    async fn downgrade(&self) -> Result<Option<Downgrade>, AdminError> {
        if !self.node.linearize().await {
            return Err(KvError::NoLeader.into());
        }
        Ok(self.node.machine().store().downgrade().cloned())
    }

    async fn set_downgrade(&self, downgrade: Option<Downgrade>) -> Result<(), AdminError> {
        self.propose(&Command::SetDowngrade(downgrade)).await?;
        Ok(())
    }

    async fn add_member(&self, peer_urls: Vec<String>, learner: bool) -> Result<AddedMember, AdminError> {
        let kind = if learner { Kind::Learner } else { Kind::Voter };
        self.let_in(&peer_urls, |id, peer_urls| Change::Add { id, peer_urls, kind }).await
    }

    async fn replace_member(&self, id: u64, peer_urls: Vec<String>) -> Result<AddedMember, AdminError> {
        let replaced = id;
        self.let_in(&peer_urls, |id, peer_urls| Change::Replace { id, peer_urls, replaced }).await
    }

    async fn remove_member(&self, id: u64) -> Result<Vec<MemberInfo>, AdminError> {
        self.change(Change::Remove { id }).await
    }

    async fn update_member(&self, id: u64, peer_urls: Vec<String>) -> Result<Vec<MemberInfo>, AdminError> {
        // Existence comes first, as in etcd, which checks no URL here. We do: nobody finds a member at such an address.
        let urls = checked_urls(&peer_urls);
        if urls.is_err() && !self.members(true).await?.iter().any(|member| member.id == id) {
            return Err(AdminError::MemberNotFound);
        }
        self.change(Change::Update { id, peer_urls: urls? }).await
    }

    async fn promote_member(&self, id: u64) -> Result<Vec<MemberInfo>, AdminError> {
        self.change(Change::Promote { id }).await
    }

    async fn snapshot(&self) -> Result<Spooled, AdminError> {
        // Without asking anyone, because a snapshot may be all that is left to save.
        if !self.node.is_in_own_state() {
            return Err(AdminError::NotCaughtUp);
        }
        let env = self.node.env();
        let folder = env.engines.scratch();
        let folder = folder.ok_or(AdminError::Unimplemented("snapshots of a store without files"))?;
        let (engine, row_bytes) = {
            let store = self.node.machine().store();
            (Arc::clone(store.engine()), store.row_bytes().all)
        };
        Ok(self.spool.snapshot(env, &folder, engine, row_bytes).await?)
    }

    async fn move_leader(&self, target: u64) -> Result<(), AdminError> {
        if !self.node.is_leader() {
            return Err(AdminError::NotLeader);
        }
        let is_voter = self.node.member_list().iter().any(|member| member.id == target && !member.is_learner);
        if !is_voter {
            return Err(AdminError::BadLeaderTransferee);
        }
        if self.node.hand_over(Some(target)).await { Ok(()) } else { Err(KvError::OutcomeUnknown.into()) }
    }
}
