//! Lease time on the member that leads: `lease::Primary` with a clock, a log and questions from other members.
//!
//! This member keeps time only for a term that it leads and whose first entry it has applied, and confirms its leadership
//! for every keepalive (safety rule 6). An expiry is proposed fenced by the term, so one that was computed before losing
//! leadership cannot commit later.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::raft as wire;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire::keep_alive_response::Outcome;

use crate::config::Timing;
use crate::env::Env;
use crate::kv::KvError;
use crate::lease::{ExpiryLimits, LeaseChange, Primary, Renewal};
use crate::mvcc::{Command, GrantedLease, LeaseId, LeaseRemaining, Store};
use crate::raft::node::Node;
use crate::raft::request::Request;
use crate::raft::types::LogId;

/// How often the leader looks for leases whose time is over (etcd's rate).
const EXPIRY_INTERVAL: Duration = Duration::from_millis(500);
/// Between two attempts of a keepalive while leadership moves.
const RETRY: Duration = Duration::from_millis(20);

/// The lease clocks of one member.
pub(crate) struct Leases {
    env: Env,
    timing: Timing,
    started: Instant,
    clock: Mutex<Clock>,
}

#[derive(Default)]
struct Clock {
    primary: Primary,
    /// The term that the primary keeps time for.
    term: Option<u64>,
}

impl Leases {
    pub(crate) fn new(env: &Env, timing: Timing) -> Self {
        Self { env: env.clone(), timing, started: env.now(), clock: Mutex::default() }
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.env.now().saturating_duration_since(self.started)
    }

    /// Follows a command that was applied.
    pub(crate) fn follow(&self, change: &LeaseChange) {
        let now = self.now();
        self.clock().primary.follow(now, change);
    }

    /// The whole state was replaced, which happens to followers only.
    pub(crate) fn replaced(&self) {
        *self.clock() = Clock::default();
    }

    /// Ends leases while this member leads.
    pub(crate) async fn run(self: Arc<Self>, node: Arc<Node>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.tick(&node).await;
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = tokio::time::sleep(EXPIRY_INTERVAL) => {}
            }
        }
    }

    async fn tick(&self, node: &Arc<Node>) {
        let Some(term) = self.keep_time(node) else { return };
        let now = self.now();
        let (expired, remaining) = {
            let mut clock = self.clock();
            let expired = clock.primary.take_expired(now, ExpiryLimits::default());
            (expired, clock.primary.take_checkpoint(now))
        };
        if !expired.is_empty() {
            tracing::info!(count = expired.len(), "leases have expired");
            let command = Command::LeaseExpire { leases: expired.clone() };
            if propose_fenced(node, &command, term).await.is_ok() {
                let count = u64::try_from(expired.len()).unwrap_or(u64::MAX);
                self.env.counters().leases_expired.inc_by(count);
            } else {
                // A second end of a lease changes nothing.
                self.clock().primary.retry(&expired);
            }
        }
        if !remaining.is_empty() {
            let command = Command::LeaseCheckpoint { leases: remaining };
            // A lost checkpoint only makes leases live longer.
            let _ = propose_fenced(node, &command, term).await;
        }
    }

    /// Becomes or stops being the one who keeps time. Returns the term that time is kept for.
    fn keep_time(&self, node: &Node) -> Option<u64> {
        let leading = leading_with_barrier(node);
        let store = node.machine().store();
        let mut clock = self.clock();
        if clock.term != leading {
            clock.term = leading;
            match leading {
                // The old leader may have acknowledged a keepalive until just before it was gone.
                Some(_) => self.promote(&mut clock, &store),
                None => clock.primary.demote(),
            }
        }
        leading
    }

    fn promote(&self, clock: &mut Clock, store: &Store) {
        clock.primary.promote(self.now(), self.timing.election_timeout, store.leases());
    }

    /// Renews a lease wherever the leader is.
    pub(crate) async fn keep_alive(&self, node: &Arc<Node>, id: LeaseId) -> Result<Duration, KvError> {
        let deadline = self.env.now() + self.timing.request_timeout();
        loop {
            let answer = match node.leader().0 {
                Some(leader) if leader == node.identity().member_id => {
                    Some(self.keep_alive_as_leader(node, id).await)
                }
                Some(leader) => match node.peer(leader) {
                    Some(peer) => peer.keep_alive(id.0, self.timing.election_timeout).await.ok(),
                    None => None,
                },
                None => None,
            };
            let ttl_ms = answer.as_ref().map_or(0, |answer| answer.ttl_ms);
            match answer.map_or(Outcome::NotLeader, |answer| answer.outcome()) {
                Outcome::Renewed => return Ok(Duration::from_millis(u64::try_from(ttl_ms).unwrap_or(0))),
                Outcome::NotFound => return Err(KvError::LeaseNotFound),
                Outcome::NotLeader | Outcome::Unspecified if self.env.now() < deadline => {
                    tokio::time::sleep(RETRY).await;
                }
                Outcome::NotLeader | Outcome::Unspecified => return Err(KvError::NoLeader),
            }
        }
    }

    /// Renews a lease on the leader.
    pub(crate) async fn keep_alive_as_leader(
        &self,
        node: &Arc<Node>,
        id: LeaseId,
    ) -> wire::KeepAliveResponse {
        let (outcome, ttl) = self.renew(node, id).await;
        let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        wire::KeepAliveResponse { outcome: outcome.into(), ttl_ms }
    }

    async fn renew(&self, node: &Arc<Node>, id: LeaseId) -> (Outcome, Duration) {
        let Some(term) = self.confirmed_term(node).await else { return (Outcome::NotLeader, Duration::ZERO) };
        let renewal = self.clock().primary.renew(self.now(), id);
        match renewal {
            Renewal::Renewed { ttl, clear_checkpoint: None } => (Outcome::Renewed, ttl),
            Renewal::Renewed { ttl, clear_checkpoint: Some(lease) } => {
                // The next leader must not start from the old remaining time, so this comes before the answer.
                match self.clear_checkpoint(node, lease, term).await {
                    Ok(()) => (Outcome::Renewed, ttl),
                    Err(()) => (Outcome::NotLeader, Duration::ZERO),
                }
            }
            // Its end is on the way.
            Renewal::Expiring | Renewal::Unknown => (Outcome::NotFound, Duration::ZERO),
            Renewal::NotPrimary => (Outcome::NotLeader, Duration::ZERO),
        }
    }

    async fn clear_checkpoint(&self, node: &Node, lease: GrantedLease, term: u64) -> Result<(), ()> {
        let cleared = LeaseRemaining { lease, remaining_seconds: None };
        propose_fenced(node, &Command::LeaseCheckpoint { leases: vec![cleared] }, term).await
    }

    /// Returns the term that this member leads, confirmed by a quorum after the call began.
    async fn confirmed_term(&self, node: &Node) -> Option<u64> {
        let term = leading_with_barrier(node)?;
        let confirmed = node.linearize().await;
        (confirmed && self.keep_time(node) == Some(term)).then_some(term)
    }

    /// Returns how long a lease has left.
    pub(crate) async fn time_to_live(&self, node: &Arc<Node>, id: LeaseId) -> Result<Duration, KvError> {
        let answer = match node.leader().0 {
            Some(leader) if leader == node.identity().member_id => {
                self.time_to_live_as_leader(node, id).await
            }
            Some(leader) => {
                let peer = node.peer(leader).ok_or(KvError::NoLeader)?;
                peer.lease_time(id.0, self.timing.election_timeout).await.map_err(|_| KvError::NoLeader)?
            }
            None => return Err(KvError::NoLeader),
        };
        match answer.outcome() {
            Outcome::Renewed => Ok(Duration::from_millis(u64::try_from(answer.remaining_ms).unwrap_or(0))),
            Outcome::NotFound => Err(KvError::LeaseNotFound),
            Outcome::NotLeader | Outcome::Unspecified => Err(KvError::NoLeader),
        }
    }

    pub(crate) async fn time_to_live_as_leader(
        &self,
        node: &Arc<Node>,
        id: LeaseId,
    ) -> wire::LeaseTimeResponse {
        let answer = |outcome: Outcome, remaining: Duration| wire::LeaseTimeResponse {
            outcome: outcome.into(),
            remaining_ms: i64::try_from(remaining.as_millis()).unwrap_or(i64::MAX),
        };
        if self.confirmed_term(node).await.is_none() {
            return answer(Outcome::NotLeader, Duration::ZERO);
        }
        match self.clock().primary.remaining(self.now(), id) {
            Some(remaining) => answer(Outcome::Renewed, remaining),
            None => answer(Outcome::NotFound, Duration::ZERO),
        }
    }
}

/// An error when it did not happen, or may not have: leadership moved, or an alarm forbids it.
async fn propose_fenced(node: &Node, command: &Command, term: u64) -> Result<(), ()> {
    match node.propose(Request::of(command), term).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(()),
    }
}

/// Returns the term that this member leads, once an entry of that term is applied.
fn leading_with_barrier(node: &Node) -> Option<u64> {
    let (leader, term) = node.leader();
    if leader != Some(node.identity().member_id) {
        return None;
    }
    let applied = node.machine().applied()?;
    is_behind_barrier(applied, term).then_some(term)
}

/// What an earlier leader has ended or recorded is applied before the first entry of a term, and may not be before that.
fn is_behind_barrier(applied: LogId, term: u64) -> bool {
    applied.committed_leader_id().term == term
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_keeps_no_lease_alive_before_an_entry_of_its_own_term_is_applied() {
        assert!(!is_behind_barrier(LogId::new_term_index(4, 100), 5));
        assert!(is_behind_barrier(LogId::new_term_index(5, 101), 5));
    }
}
