//! What an applied command means for the clocks of leases.

use std::time::Duration;

use crate::mvcc::{Applied, Command, GrantedLease, LeaseId, Store};

/// A lease whose time starts when its grant is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingGrant {
    pub lease: GrantedLease,
    pub ttl: Duration,
}

/// What a command did to the set of leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    None,
    Granted(PendingGrant),
    /// Whatever had this id.
    Revoked(LeaseId),
    /// Those of these grants that were still there: an id may have been granted again before its expiry was applied.
    Expired(Vec<GrantedLease>),
}

impl LeaseChange {
    /// Returns what `command` has done; `store` is the state right behind it.
    #[must_use]
    pub fn of(command: &Command, applied: &Applied, store: &Store) -> Self {
        if applied.answer.is_err() {
            return Self::None;
        }
        match command {
            Command::LeaseGrant { id, ttl_seconds } => {
                let grant = store.lease(*id).map_or(0, |lease| lease.grant);
                let ttl = Duration::from_secs(u64::try_from(*ttl_seconds).unwrap_or(0));
                Self::Granted(PendingGrant { lease: GrantedLease { id: *id, grant }, ttl })
            }
            Command::LeaseRevoke { id } => Self::Revoked(*id),
            Command::LeaseExpire { leases } => Self::Expired(leases.clone()),
            Command::Guarded { command, .. } => Self::of(command, applied, store),
            Command::Txn(_)
            | Command::Compact { .. }
            | Command::LeaseCheckpoint { .. }
            | Command::AlarmRaise(_)
            | Command::AlarmClear(_)
            | Command::CompareStates(_)
            | Command::RaiseLevel(_)
            | Command::SetDowngrade(_)
            | Command::Auth(_) => Self::None,
        }
    }
}
