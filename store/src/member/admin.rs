//! Cluster and maintenance on top of raft.

use super::Member;
use crate::admin::{Admin, AdminError, KeySpaceHash, MemberInfo, MemberNumbers};
use crate::kv::KvError;
use crate::mvcc::Revision;

#[tonic::async_trait]
impl Admin for Member {
    async fn members(&self, linearizable: bool) -> Result<Vec<MemberInfo>, AdminError> {
        if linearizable && !self.node.linearize().await {
            return Err(KvError::NoLeader.into());
        }
        Ok(self.node.member_list())
    }

    fn numbers(&self) -> MemberNumbers {
        let size = self.node.machine().store().engine().size_bytes();
        MemberNumbers {
            db_size_bytes: size,
            db_size_in_use_bytes: size,
            last_log_index: self.node.last_log_index(),
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
