//! Who belongs to the cluster, as a running member knows it.

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::async_runtime::watch::WatchReceiver;

use super::node::Node;
use super::types::{Member, Membership, StoredMembership};
use crate::admin::MemberInfo;

/// How membership sees somebody who comes with a data directory (safety rule 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recognition {
    /// Membership does not name it, perhaps because this member is behind.
    Unknown,
    /// It was added and has not started yet, as far as this member knows.
    Unstarted,
    Same,
    OtherDirectory,
    Removed,
}

impl Node {
    /// Returns the members as the newest entry of this member's log names them, committed or not.
    pub(crate) fn members(&self) -> BTreeMap<u64, Member> {
        self.effective_membership().nodes().map(|(id, member)| (*id, member.clone())).collect()
    }

    /// Returns the members as the administration sees them: what this member has applied.
    pub(crate) fn member_list(&self) -> Vec<MemberInfo> {
        let (membership, _) = self.machine().membership();
        listed(&membership)
    }

    /// Returns how a caller is to be taken.
    pub(crate) fn recognise(&self, member_id: u64, incarnation: u64) -> Recognition {
        if self.machine().has_removed(member_id) {
            return Recognition::Removed;
        }
        match self.effective_membership().get_node(&member_id).map(|member| member.incarnation) {
            None => Recognition::Unknown,
            Some(0) => Recognition::Unstarted,
            Some(known) if known == incarnation => Recognition::Same,
            Some(_) => Recognition::OtherDirectory,
        }
    }

    /// Whether this member has no vote yet: clients may ask it for little.
    pub(crate) fn is_learner(&self) -> bool {
        let own = self.identity().member_id;
        self.machine().is_voter(own).map_or(self.joins(), |is_voter| !is_voter)
    }

    /// Whether the state of this member is one of a time at which it belonged to the cluster. Before it is, a member that joins holds
    /// nothing, or what others held before.
    pub(crate) fn is_in_own_state(&self) -> bool {
        self.machine().is_voter(self.identity().member_id).is_some()
    }

    fn effective_membership(&self) -> Arc<StoredMembership> {
        let metrics = self.raft().server_metrics();
        Arc::clone(&metrics.borrow_watched().membership_config)
    }
}

/// Returns members as the administration sees them. One that is to become a voter is shown as one while it is unstarted, as etcd
/// shows it, and as the learner that it is from then on.
pub(crate) fn listed(membership: &StoredMembership) -> Vec<MemberInfo> {
    let info = |id: u64, member: &Member| {
        let is_unstarted_voter = member.promote && member.incarnation == 0;
        MemberInfo {
            id,
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            client_urls: member.client_urls.clone(),
            is_learner: !is_unstarted_voter && !is_voter(membership.membership(), id),
        }
    };
    membership.nodes().map(|(id, member)| info(*id, member)).collect()
}

/// Whether a member has a vote.
pub(crate) fn is_voter(membership: &Membership, id: u64) -> bool {
    membership.get_joint_config().iter().any(|voters| voters.contains(&id))
}
