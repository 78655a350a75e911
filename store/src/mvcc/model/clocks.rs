//! The naive primary: the deadlines of leases as a list, made equal to the leases that exist behind every command.

use std::time::Duration;

use crate::lease::Renewal;
use crate::mvcc::{GrantedLease, Lease, LeaseId, LeaseRemaining};

/// How often the time that long leases have left is recorded.
const CHECKPOINT_SECONDS: u64 = 300;

struct Clock {
    lease: GrantedLease,
    ttl: u64,
    deadline: u64,
    expiring: bool,
    has_checkpoint: bool,
}

/// Times in whole seconds.
#[derive(Default)]
pub(super) struct Clocks {
    clocks: Vec<Clock>,
    checkpointed: u64,
}

fn whole(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap()
}

impl Clocks {
    pub(super) fn promote(&mut self, now: u64, extend: u64, leases: impl Iterator<Item = Lease>) {
        self.checkpointed = now;
        let clock = |lease: Lease| Clock {
            lease: GrantedLease { id: lease.id, grant: lease.grant },
            ttl: whole(lease.ttl_seconds),
            deadline: now + whole(lease.remaining_seconds.unwrap_or(lease.ttl_seconds)) + extend,
            expiring: false,
            has_checkpoint: lease.remaining_seconds.is_some(),
        };
        self.clocks = leases.map(clock).collect();
    }

    /// There is a clock for each lease that exists, and no other.
    pub(super) fn follow(&mut self, now: u64, leases: impl Iterator<Item = Lease>) {
        let leases: Vec<Lease> = leases.collect();
        let exists = |id, grant| leases.iter().any(|lease| (lease.id, lease.grant) == (id, grant));
        self.clocks.retain(|clock| exists(clock.lease.id, clock.lease.grant));
        for lease in leases {
            let granted = GrantedLease { id: lease.id, grant: lease.grant };
            if !self.clocks.iter().any(|clock| clock.lease == granted) {
                let ttl = whole(lease.ttl_seconds);
                let deadline = now + ttl;
                self.clocks.push(Clock {
                    lease: granted,
                    ttl,
                    deadline,
                    expiring: false,
                    has_checkpoint: false,
                });
            }
        }
        self.clocks.sort_by_key(|clock| clock.lease.id);
    }

    pub(super) fn renew(&mut self, now: u64, id: LeaseId) -> Renewal {
        let Some(clock) = self.clocks.iter_mut().find(|clock| clock.lease.id == id) else {
            return Renewal::Unknown;
        };
        if clock.expiring || clock.deadline <= now {
            return Renewal::Expiring;
        }
        clock.deadline = now + clock.ttl;
        let clear_checkpoint = clock.has_checkpoint.then_some(clock.lease);
        clock.has_checkpoint = false;
        Renewal::Renewed { ttl: Duration::from_secs(clock.ttl), clear_checkpoint }
    }

    pub(super) fn remaining(&self, now: u64, id: LeaseId) -> Option<Duration> {
        let clock = self.clocks.iter().find(|clock| clock.lease.id == id)?;
        (clock.deadline > now).then(|| Duration::from_secs(clock.deadline - now))
    }

    pub(super) fn take_expired(&mut self, now: u64, leases_max: usize) -> Vec<GrantedLease> {
        let mut due: Vec<&mut Clock> =
            self.clocks.iter_mut().filter(|clock| !clock.expiring && clock.deadline <= now).collect();
        due.sort_by_key(|clock| (clock.deadline, clock.lease.id));
        due.truncate(leases_max);
        due.iter_mut().for_each(|clock| clock.expiring = true);
        due.iter().map(|clock| clock.lease).collect()
    }

    pub(super) fn retry(&mut self, leases: &[GrantedLease]) {
        let again = self.clocks.iter_mut().filter(|clock| leases.contains(&clock.lease));
        again.for_each(|clock| clock.expiring = false);
    }

    pub(super) fn take_checkpoint(&mut self, now: u64) -> Vec<LeaseRemaining> {
        if now < self.checkpointed + CHECKPOINT_SECONDS {
            return Vec::new();
        }
        self.checkpointed = now;
        let long = self
            .clocks
            .iter_mut()
            .filter(|clock| clock.ttl > CHECKPOINT_SECONDS && !clock.expiring && clock.deadline > now);
        let record = |clock: &mut Clock| {
            clock.has_checkpoint = true;
            let remaining_seconds = i64::try_from(clock.deadline - now).ok();
            LeaseRemaining { lease: clock.lease, remaining_seconds }
        };
        long.map(record).collect()
    }
}
