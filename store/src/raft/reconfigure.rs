//! Changes of membership on a running member: to the leader, decided there, and into the log.
//!
//! The leader decides on membership that it has applied, and writes under the condition that no other change came in between. A change
//! that moves one vote is one entry, and majorities before and after it overlap. A replacement moves two: its first entry asks majorities
//! of both sides, and whoever leads then writes the second before any other change.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{ChangeMembers, Instant as _, Precondition};
use proto::raft as wire;
use tokio::time::Instant;
use tonic::Code;

use super::change_wire;
use super::members::is_voter;
use super::network::never_sent;
use super::node::{LEADER_POLL, Node};
use super::types::{Membership, Payload, StoredMembership, TypeConfig};
use crate::membership::{Change, Decision, Denial, Known, View, decide, due};

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Membership after it.
    Changed(StoredMembership),
    Denied(Denial),
    /// Nothing was proposed.
    NotLeader,
    /// It may or may not come.
    Unknown,
}

/// Why a change has not been made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeError {
    Denied(Denial),
    NoLeader,
    Unknown,
}

impl From<Result<StoredMembership, ChangeError>> for Outcome {
    fn from(made: Result<StoredMembership, ChangeError>) -> Self {
        match made {
            Ok(after) => Self::Changed(after),
            Err(ChangeError::Denied(denial)) => Self::Denied(denial),
            Err(ChangeError::NoLeader) => Self::NotLeader,
            Err(ChangeError::Unknown) => Self::Unknown,
        }
    }
}

/// What became of one attempt to write a decision.
enum Written {
    Done(Outcome),
    /// Something changed meanwhile; it has to be decided anew.
    Outdated,
}

/// Membership that may be changed: nothing is under way.
struct Settled {
    view: View,
    membership: StoredMembership,
}

impl Node {
    /// Has a change made, wherever the leader is, and returns membership after it once this member has applied it too.
    pub(crate) async fn change_members(&self, change: &Change) -> Result<StoredMembership, ChangeError> {
        let deadline = self.env().now() + self.timing().request_timeout();
        loop {
            match self.change_once(change, deadline).await {
                Outcome::Changed(after) => {
                    self.follow_change(&after, deadline).await;
                    return Ok(after);
                }
                Outcome::Denied(denial) => return Err(ChangeError::Denied(denial)),
                Outcome::Unknown => return Err(ChangeError::Unknown),
                // Nothing was proposed, so trying again cannot do it twice.
                Outcome::NotLeader if self.env().now() < deadline => tokio::time::sleep(LEADER_POLL).await,
                Outcome::NotLeader => return Err(ChangeError::NoLeader),
            }
        }
    }

    async fn change_once(&self, change: &Change, deadline: Instant) -> Outcome {
        match self.leader().0 {
            Some(leader) if leader == self.identity().member_id => {
                self.change_as_leader(change, deadline).await
            }
            Some(leader) => self.change_there(leader, change, deadline).await,
            None => Outcome::NotLeader,
        }
    }

    async fn change_there(&self, leader: u64, change: &Change, deadline: Instant) -> Outcome {
        let Some(peer) = self.peer(leader) else { return Outcome::NotLeader };
        let change = Some(change_wire::change_to_wire(change.clone()));
        let timeout = deadline.saturating_duration_since(self.env().now());
        match peer.change_members(wire::ChangeMembersRequest { change, relay: false }, timeout).await {
            Ok(response) => change_wire::outcome(response).unwrap_or(Outcome::Unknown),
            // A peer that refuses a call has done nothing.
            Err(status) if never_sent(&status) || status.code() == Code::FailedPrecondition => {
                Outcome::NotLeader
            }
            Err(_) => Outcome::Unknown,
        }
    }

    /// Waits until this member knows of a change; one that was removed is not told any more.
    async fn follow_change(&self, after: &StoredMembership, deadline: Instant) {
        let stays = after.get_node(&self.identity().member_id).is_some();
        if let Some(id) = after.log_id()
            && stays
        {
            self.wait_applied(id.index(), deadline).await;
        }
    }

    /// Decides and makes a change on this member, if it leads.
    pub(crate) async fn change_as_leader(&self, change: &Change, deadline: Instant) -> Outcome {
        // A new leader has not heard of everyone yet.
        let patience = self.env().now() + self.timing().election_timeout;
        while self.env().now() < deadline {
            // What was acknowledged before has been applied then, so nothing is decided on the past.
            let Some(confirmed) = self.confirm_leadership().await else { return Outcome::NotLeader };
            if !self.wait_applied(confirmed.index(), deadline).await {
                return Outcome::NotLeader;
            }
            let Some(settled) = self.settled().filter(|settled| !settled.view.is_joint) else {
                tokio::time::sleep(LEADER_POLL).await;
                continue;
            };
            let written = match decide(change, &settled.view) {
                Err(Denial::Unhealthy) if self.env().now() < patience => Written::Outdated,
                Err(denial) => return Outcome::Denied(denial),
                Ok(decision) => self.carry_out(decision, settled.membership, deadline).await,
            };
            match written {
                Written::Done(outcome) => return outcome,
                Written::Outdated => tokio::time::sleep(LEADER_POLL).await,
            }
        }
        Outcome::NotLeader
    }

    /// As leader: goes on with what was decided earlier, such as giving a vote to a member that has caught up.
    pub(crate) async fn change_due(&self) {
        let Some(settled) = self.is_leader().then(|| self.settled()).flatten() else { return };
        let Some(due) = due(&settled.view) else { return };
        let deadline = self.env().now() + self.timing().request_timeout();
        let written = self.carry_out(due.clone(), settled.membership, deadline).await;
        if let Written::Done(Outcome::Changed(_)) = written {
            tell(&due);
        }
    }

    /// Returns what changes are decided on, unless one is under way.
    fn settled(&self) -> Option<Settled> {
        let (membership, removed) = self.machine().membership();
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        if metrics.membership_config.log_id() != membership.log_id() {
            return None;
        }
        let own = self.identity().member_id;
        let last_index = metrics.last_log_index.unwrap_or(0);
        let heard = |id: &u64| -> Option<Duration> {
            let acked = metrics.heartbeat.as_ref()?.get(id)?.as_ref()?;
            Some(acked.into_inner().elapsed())
        };
        let matched = |id: &u64| metrics.replication.as_ref()?.get(id)?.as_ref().map(|id| id.index());
        let known = |id: &u64| Known {
            member: membership.get_node(id).cloned().unwrap_or_default(),
            is_voter: is_voter(membership.membership(), *id),
            is_alive: *id == own || heard(id).is_some_and(|ago| ago < self.timing().election_timeout),
            matched: if *id == own { last_index } else { matched(id).unwrap_or(0) },
        };
        let members: BTreeMap<u64, Known> = membership.nodes().map(|(id, _)| (*id, known(id))).collect();
        let is_joint = membership.membership().get_joint_config().len() > 1;
        let view = View { own, members, removed: (*removed).clone(), last_index, is_joint };
        drop(metrics);
        Some(Settled { view, membership })
    }

    async fn carry_out(&self, decision: Decision, current: StoredMembership, deadline: Instant) -> Written {
        if decision == Decision::Nothing {
            return Written::Done(Outcome::Changed(current));
        }
        if decision == Decision::HandOver {
            let moved = self.hand_over(None).await;
            let outcome = if moved { Outcome::NotLeader } else { Outcome::Denied(Denial::Unhealthy) };
            return Written::Done(outcome);
        }
        let condition = Precondition::LastMembershipLogId { last_membership_log_id: *current.log_id() };
        let writing = async {
            match decision {
                Decision::Replace(id, member) => {
                    let change = ChangeMembers::SetNodes(BTreeMap::from([(id, member)]));
                    self.raft().change_membership_if(change, true, [condition]).await
                }
                other => {
                    let next = next_membership(current.membership(), other);
                    self.raft().append_membership(next, Payload::Blank, [condition]).await
                }
            }
        };
        match tokio::time::timeout_at(deadline, writing).await {
            Ok(Ok(response)) => {
                let after = response.membership.unwrap_or_default();
                Written::Done(Outcome::Changed(StoredMembership::new(Some(response.log_id), after)))
            }
            Ok(Err(error)) => failed(&error),
            Err(_) => Written::Done(Outcome::Unknown),
        }
    }
}

fn tell(done: &Decision) {
    match done {
        Decision::Promote(id) => {
            tracing::info!(member = format!("{id:x}"), "has caught up and votes from now on");
        }
        Decision::Swap { leaving, coming } => {
            let (leaving, coming) = (format!("{leaving:x}"), format!("{coming:x}"));
            tracing::info!(leaving, coming, "has caught up and takes a vote over");
        }
        Decision::Drop(id) => tracing::info!(member = format!("{id:x}"), "has been replaced and is out"),
        Decision::Settle => tracing::info!("the replaced member is out"),
        Decision::Nothing | Decision::Insert(..) | Decision::Replace(..) | Decision::HandOver => {}
    }
}

/// Returns membership after a decision that moves votes or members.
fn next_membership(current: &Membership, decision: Decision) -> Membership {
    let mut configs = current.get_joint_config().clone();
    let mut nodes: BTreeMap<_, _> = current.nodes().map(|(id, member)| (*id, member.clone())).collect();
    match decision {
        Decision::Insert(id, member) | Decision::Replace(id, member) => {
            nodes.insert(id, member);
        }
        Decision::Drop(id) => {
            nodes.remove(&id);
            configs.iter_mut().for_each(|voters| {
                voters.remove(&id);
            });
        }
        Decision::Promote(id) => configs.iter_mut().for_each(|voters| {
            voters.insert(id);
        }),
        Decision::Swap { leaving, coming } => {
            let mut after = configs.last().cloned().unwrap_or_default();
            after.remove(&leaving);
            after.insert(coming);
            configs.push(after);
        }
        Decision::Settle => {
            let after = configs.pop().unwrap_or_default();
            let is_out = |id: &u64| configs.iter().any(|before| before.contains(id)) && !after.contains(id);
            nodes.retain(|id, _| !is_out(id));
            configs = vec![after];
        }
        Decision::Nothing | Decision::HandOver => {}
    }
    Membership::new(configs, nodes).expect("a decision leaves a voter, and names every one")
}

fn failed(error: &RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Written {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => Written::Done(Outcome::NotLeader),
        RaftError::APIError(
            ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_),
        ) => Written::Outdated,
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) | RaftError::Fatal(_) => {
            Written::Done(Outcome::Unknown)
        }
    }
}
