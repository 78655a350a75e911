//! The primary: the clock side of leases, pure. Time comes in as `now`, a monotonic duration since any fixed moment; what
//! is to be proposed comes out.
//!
//! ```text
//!             renew                    deadline passes               the expiry is applied
//!            ┌─────┐                ┌──────────────────► expiring ───────────────────────────► gone
//!   grant ──►│alive│────────────────┘                       │ the proposal failed
//!            └─────┘◄───────────────────────────────────────┘ (`retry`: asked again at once)
//! ```
//!
//! A lease that is expiring is not renewed: its end is on its way through the log, and a keepalive that was acknowledged
//! around it would be a lie (safety rule 6). The caller promotes only after the barrier of its own term is applied.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{LeaseChange, PendingGrant};
use crate::mvcc::{GrantedLease, Lease, LeaseId, LeaseRemaining};

/// How often the remaining time of long leases is recorded, and how long a lease must be for that.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(300);

/// Bounds of one round of expiry.
#[derive(Clone, Copy, Debug)]
pub struct ExpiryLimits {
    /// Most leases in one proposal.
    pub leases_max: usize,
}

impl Default for ExpiryLimits {
    /// 500 every half second, etcd's rate: a mass expiry must not starve other writes.
    fn default() -> Self {
        Self { leases_max: 500 }
    }
}

/// Answer to a keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Renewed for its full time. When `clear_checkpoint` is set, that must be proposed and applied before the keepalive is
    /// acknowledged: a new primary would otherwise start from the old remaining time.
    Renewed {
        ttl: Duration,
        clear_checkpoint: Option<GrantedLease>,
    },
    /// Its end is being replicated; ask again when that is applied.
    Expiring,
    Unknown,
    /// This member does not keep the time of leases.
    NotPrimary,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Clock {
    grant: u64,
    ttl: Duration,
    deadline: Duration,
    expiring: bool,
    has_checkpoint: bool,
}

/// Deadlines of all leases, on the member that leads.
#[derive(Clone, Debug, Default)]
pub struct Primary {
    promoted: bool,
    clocks: BTreeMap<LeaseId, Clock>,
    /// Deadlines of leases that are alive.
    due: BTreeSet<(Duration, LeaseId)>,
    last_checkpoint: Duration,
}

impl Primary {
    /// Returns a member that is not the primary.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over: every lease gets its full time, or what a checkpoint left it, plus `extend` for the time without leader.
    pub fn promote<'a>(
        &mut self,
        now: Duration,
        extend: Duration,
        leases: impl IntoIterator<Item = &'a Lease>,
    ) {
        self.demote();
        self.promoted = true;
        self.last_checkpoint = now;
        for lease in leases {
            let ttl = seconds(lease.ttl_seconds);
            let left = lease.remaining_seconds.map_or(ttl, seconds);
            let clock = Clock {
                grant: lease.grant,
                ttl,
                deadline: now + left + extend,
                expiring: false,
                has_checkpoint: lease.remaining_seconds.is_some(),
            };
            self.due.insert((clock.deadline, lease.id));
            self.clocks.insert(lease.id, clock);
        }
    }

    /// Stops keeping time; every later question is answered "not primary".
    pub fn demote(&mut self) {
        *self = Self::default();
    }

    /// Returns whether this member keeps the time.
    #[must_use]
    pub fn is_promoted(&self) -> bool {
        self.promoted
    }

    /// Follows a command that was just applied.
    pub fn follow(&mut self, now: Duration, change: &LeaseChange) {
        match change {
            LeaseChange::None => {}
            LeaseChange::Granted(grant) => self.granted(now, *grant),
            LeaseChange::Revoked(id) => self.forget(*id),
            LeaseChange::Expired(leases) => leases.iter().for_each(|lease| self.expired(*lease)),
        }
    }

    fn granted(&mut self, now: Duration, grant: PendingGrant) {
        if !self.promoted {
            return;
        }
        let id = grant.lease.id;
        self.forget(id);
        let clock = Clock {
            grant: grant.lease.grant,
            ttl: grant.ttl,
            deadline: now + grant.ttl,
            expiring: false,
            has_checkpoint: false,
        };
        self.due.insert((clock.deadline, id));
        self.clocks.insert(id, clock);
    }

    fn expired(&mut self, lease: GrantedLease) {
        if self.clocks.get(&lease.id).is_some_and(|clock| clock.grant == lease.grant) {
            self.forget(lease.id);
        }
    }

    fn forget(&mut self, id: LeaseId) {
        if let Some(clock) = self.clocks.remove(&id) {
            self.due.remove(&(clock.deadline, id));
        }
    }

    /// Renews a lease.
    pub fn renew(&mut self, now: Duration, id: LeaseId) -> Renewal {
        if !self.promoted {
            return Renewal::NotPrimary;
        }
        let Some(clock) = self.clocks.get_mut(&id) else { return Renewal::Unknown };
        if clock.expiring || clock.deadline <= now {
            return Renewal::Expiring;
        }
        self.due.remove(&(clock.deadline, id));
        clock.deadline = now + clock.ttl;
        self.due.insert((clock.deadline, id));
        let cleared = std::mem::take(&mut clock.has_checkpoint);
        let clear_checkpoint = cleared.then_some(GrantedLease { id, grant: clock.grant });
        Renewal::Renewed { ttl: clock.ttl, clear_checkpoint }
    }

    /// Returns the time a lease has left; `None` when it is unknown here or its time is over.
    #[must_use]
    pub fn remaining(&self, now: Duration, id: LeaseId) -> Option<Duration> {
        self.clocks.get(&id).and_then(|clock| clock.deadline.checked_sub(now)).filter(|left| !left.is_zero())
    }

    /// Returns when the next lease is due, if any.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.due.first().map(|&(deadline, _)| deadline)
    }

    /// Returns leases whose time is over, the longest overdue first; they count as expiring from here on. Propose their end
    /// fenced by the own term, and call [`Primary::retry`] when that fails.
    pub fn take_expired(&mut self, now: Duration, limits: ExpiryLimits) -> Vec<GrantedLease> {
        let mut expired = Vec::new();
        while expired.len() < limits.leases_max {
            let Some(&(deadline, id)) = self.due.first().filter(|&&(deadline, _)| deadline <= now) else {
                break;
            };
            self.due.remove(&(deadline, id));
            let clock = self.clocks.get_mut(&id).expect("every due lease has a clock");
            clock.expiring = true;
            expired.push(GrantedLease { id, grant: clock.grant });
        }
        expired
    }

    /// Makes leases due again whose end could not be proposed.
    pub fn retry(&mut self, leases: &[GrantedLease]) {
        for lease in leases {
            let Some(clock) = self.clocks.get_mut(&lease.id) else { continue };
            if clock.grant == lease.grant && clock.expiring {
                clock.expiring = false;
                self.due.insert((clock.deadline, lease.id));
            }
        }
    }

    /// Returns the remaining times to record now: of leases longer than the interval, once per interval.
    pub fn take_checkpoint(&mut self, now: Duration) -> Vec<LeaseRemaining> {
        if !self.promoted || now < self.last_checkpoint + CHECKPOINT_EVERY {
            return Vec::new();
        }
        self.last_checkpoint = now;
        let mut records = Vec::new();
        for (&id, clock) in &mut self.clocks {
            let left = clock.deadline.saturating_sub(now);
            if clock.ttl <= CHECKPOINT_EVERY || clock.expiring || left.is_zero() {
                continue;
            }
            clock.has_checkpoint = true;
            // Rounded up: a lease may live longer than its time, never shorter.
            let whole = left.as_secs() + u64::from(left.subsec_nanos() > 0);
            records.push(LeaseRemaining {
                lease: GrantedLease { id, grant: clock.grant },
                remaining_seconds: i64::try_from(whole).ok(),
            });
        }
        records
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn grant(id: i64, ttl: u64) -> PendingGrant {
        PendingGrant { lease: GrantedLease { id: LeaseId(id), grant: 1 }, ttl: at(ttl) }
    }

    fn primary() -> Primary {
        let mut primary = Primary::new();
        primary.promote(at(0), at(0), []);
        primary
    }

    fn expired(primary: &mut Primary, now: Duration) -> Vec<i64> {
        primary.take_expired(now, ExpiryLimits::default()).into_iter().map(|lease| lease.id.0).collect()
    }

    #[test]
    fn a_lease_is_never_due_before_its_time_after_the_last_renewal() {
        let mut primary = primary();
        primary.granted(at(0), grant(1, 10));
        assert_eq!(expired(&mut primary, at(9)), Vec::<i64>::new());
        assert_eq!(
            primary.renew(at(9), LeaseId(1)),
            Renewal::Renewed { ttl: at(10), clear_checkpoint: None }
        );
        assert_eq!(primary.next_due(), Some(at(19)));
        assert_eq!(expired(&mut primary, at(18)), Vec::<i64>::new());
        assert_eq!(expired(&mut primary, at(19)), [1]);
        assert_eq!(expired(&mut primary, at(30)), Vec::<i64>::new(), "asked for once");
    }

    #[test]
    fn an_overdue_lease_is_not_renewed() {
        let mut primary = primary();
        primary.granted(at(0), grant(1, 10));
        assert_eq!(primary.renew(at(10), LeaseId(1)), Renewal::Expiring);
        assert_eq!(expired(&mut primary, at(10)), [1]);
        assert_eq!(primary.renew(at(11), LeaseId(1)), Renewal::Expiring);
        primary.retry(&[GrantedLease { id: LeaseId(1), grant: 1 }]);
        assert_eq!(expired(&mut primary, at(11)), [1], "asked again after a failed proposal");
        primary.follow(at(11), &LeaseChange::Revoked(LeaseId(1)));
        assert_eq!(primary.renew(at(12), LeaseId(1)), Renewal::Unknown);
    }

    #[test]
    fn an_expiry_that_comes_behind_a_new_grant_of_the_id_leaves_the_new_lease_its_clock() {
        let mut primary = primary();
        primary.granted(at(0), grant(1, 10));
        let old = primary.take_expired(at(10), ExpiryLimits::default());
        // A client revokes and grants the id again before the expiry is applied.
        primary.follow(at(10), &LeaseChange::Revoked(LeaseId(1)));
        let again = PendingGrant { lease: GrantedLease { id: LeaseId(1), grant: 2 }, ttl: at(10) };
        primary.follow(at(10), &LeaseChange::Granted(again));
        primary.follow(at(11), &LeaseChange::Expired(old));
        assert_eq!(primary.remaining(at(11), LeaseId(1)), Some(at(9)));
        assert_eq!(expired(&mut primary, at(20)), [1]);
    }

    #[test]
    fn a_new_primary_gives_every_lease_its_full_or_recorded_time_and_an_extension() {
        let lease = |id, remaining_seconds| Lease {
            id: LeaseId(id),
            ttl_seconds: 100,
            remaining_seconds,
            grant: 1,
            keys: BTreeSet::new(),
        };
        let mut primary = Primary::new();
        assert_eq!(primary.renew(at(0), LeaseId(1)), Renewal::NotPrimary);
        primary.promote(at(1000), at(3), [&lease(1, None), &lease(2, Some(20))]);
        assert_eq!(primary.remaining(at(1000), LeaseId(1)), Some(at(103)));
        assert_eq!(primary.remaining(at(1000), LeaseId(2)), Some(at(23)));
        let cleared = Some(GrantedLease { id: LeaseId(2), grant: 1 });
        assert_eq!(
            primary.renew(at(1001), LeaseId(2)),
            Renewal::Renewed { ttl: at(100), clear_checkpoint: cleared }
        );
        primary.demote();
        assert_eq!(expired(&mut primary, at(9999)), Vec::<i64>::new());
    }

    #[test]
    fn long_leases_are_checkpointed_once_per_interval_rounded_up() {
        let mut primary = primary();
        primary.granted(at(0), grant(1, 300));
        primary.granted(at(0), grant(2, 1000));
        assert_eq!(primary.take_checkpoint(at(299)), []);
        let now = Duration::from_millis(300_500);
        let remaining =
            LeaseRemaining { lease: GrantedLease { id: LeaseId(2), grant: 1 }, remaining_seconds: Some(700) };
        assert_eq!(primary.take_checkpoint(now), [remaining]);
        assert_eq!(primary.take_checkpoint(at(301)), []);
    }

    #[test]
    fn one_round_of_expiry_is_bounded_and_takes_the_longest_overdue_first() {
        let mut primary = primary();
        for id in 1..=3 {
            primary.granted(at(0), grant(id, 10 - u64::try_from(id).unwrap()));
        }
        let limits = ExpiryLimits { leases_max: 2 };
        let first: Vec<i64> =
            primary.take_expired(at(20), limits).into_iter().map(|lease| lease.id.0).collect();
        assert_eq!(first, [3, 2]);
        assert_eq!(expired(&mut primary, at(20)), [1]);
    }

    #[test]
    fn the_least_time_to_live_is_one_and_a_half_election_timeouts_in_whole_seconds() {
        let election = Duration::from_millis(1000);
        let granted = |asked| super::super::granted_ttl_seconds(at(asked), election);
        assert_eq!(granted(0), Ok(2));
        assert_eq!(granted(1), Ok(2));
        assert_eq!(granted(60), Ok(60));
        assert_eq!(granted(9_000_000_000), Ok(9_000_000_000));
        assert!(granted(9_000_000_001).is_err());
    }
}
