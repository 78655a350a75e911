//! What the replicated log carries, and what applying it answers. The stored form is in `wire/`.

use super::divergence::Comparison;
use super::{Alarm, Downgrade, LeaseId, Refusal, Revision, RevisionEvents, Txn, TxnResult};
use crate::auth::{AuthCommand, Caller};
use crate::level::{Level, RaiseLevel};

/// One entry of the log. Adding a variant needs an arm in `Store::apply`, a feature level with a new format, and a model test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Also carries single puts and deletes.
    Txn(Txn),
    Compact {
        revision: Revision,
    },
    LeaseGrant {
        id: LeaseId,
        ttl_seconds: i64,
    },
    /// A client ends a lease.
    LeaseRevoke {
        id: LeaseId,
    },
    /// The primary ends leases whose time is over. It must be proposed fenced by the primary's own term.
    LeaseExpire {
        leases: Vec<GrantedLease>,
    },
    /// The primary records how much time leases have left.
    LeaseCheckpoint {
        leases: Vec<LeaseRemaining>,
    },
    /// A member, or an operator, says that something is wrong.
    AlarmRaise(Alarm),
    /// It is mended.
    AlarmClear(Alarm),
    /// What members held at an earlier entry. Each notes what it holds at this one.
    CompareStates(Comparison),
    /// All members understand more than the cluster has agreed on.
    RaiseLevel(RaiseLevel),
    /// An operator announces a downgrade, or that there is none any more.
    SetDowngrade(Option<Downgrade>),
    /// A change of users, roles or sessions.
    Auth(AuthCommand),
    /// A client's command, of any other kind: it is applied if `caller` may do it then. All others come from this process.
    Guarded {
        caller: Caller,
        command: Box<Self>,
    },
}

impl Command {
    /// Returns the feature level from which on members may propose this: all of them know how to apply it then.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::Guarded { command, .. } => command.level(),
            Self::SetDowngrade(_) => Level(2),
            // A raised level is proposed when all members understand it, whatever was agreed on before.
            Self::RaiseLevel(_)
            | Self::Txn(_)
            | Self::Compact { .. }
            | Self::LeaseGrant { .. }
            | Self::LeaseRevoke { .. }
            | Self::LeaseExpire { .. }
            | Self::LeaseCheckpoint { .. }
            | Self::AlarmRaise(_)
            | Self::AlarmClear(_)
            | Self::CompareStates(_)
            | Self::Auth(_) => Level::FIRST,
        }
    }

    /// Returns whether any branch of the command may take more space.
    #[must_use]
    pub fn adds(&self) -> bool {
        match self {
            Self::Txn(txn) => txn.has_put(),
            Self::LeaseGrant { .. } => true,
            Self::Guarded { command, .. } => command.adds(),
            Self::Compact { .. }
            | Self::LeaseRevoke { .. }
            | Self::LeaseExpire { .. }
            | Self::LeaseCheckpoint { .. }
            | Self::AlarmRaise(_)
            | Self::AlarmClear(_)
            | Self::CompareStates(_)
            | Self::RaiseLevel(_)
            | Self::SetDowngrade(_)
            | Self::Auth(_) => false,
        }
    }
}

/// A lease together with the grant that was meant, because ids may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantedLease {
    pub id: LeaseId,
    pub grant: u64,
}

/// A lease and the time it has left; `None` clears the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRemaining {
    pub lease: GrantedLease,
    pub remaining_seconds: Option<i64>,
}

/// Answer to a command that was not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Txn(TxnResult),
    LeaseGranted { id: LeaseId, ttl_seconds: i64 },
    AlarmCleared { was_raised: bool },
    Done,
}

/// Outcome of applying one command; the same on every member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub answer: Result<Answer, Refusal>,
    /// Store revision after the command.
    pub revision: Revision,
    /// Changes to publish, one element per new revision.
    pub events: Vec<RevisionEvents>,
}
