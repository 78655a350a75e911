//! Cluster and maintenance on top of raft.

use super::Member;
use crate::admin::{Admin, AdminError, KeySpaceHash, MemberInfo, MemberNumbers};
use crate::kv::KvError;
use crate::mvcc::{Alarm, Answer, Command, Revision};

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
        MemberNumbers {
            db_size_bytes: store.engine().size_bytes(),
            db_size_in_use_bytes: store.row_bytes().all,
            quota_bytes: self.space.quota_bytes(),
            last_log_index: self.node.last_log_index(),
            alarms: store.alarms().collect(),
            ..MemberNumbers::default()
        }
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
