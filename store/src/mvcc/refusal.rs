//! Why the core refuses a request. Refusals are answers: they are the same on every member and change nothing.

use super::Revision;
use crate::auth::AuthRefusal;

/// A request that the store's rules do not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("revision {requested} has been compacted; the oldest readable revision is {compacted}")]
    Compacted { requested: Revision, compacted: Revision },
    #[error("revision {requested} is in the future; the store stands at {current}")]
    FutureRevision { requested: Revision, current: Revision },
    #[error("lease not found")]
    LeaseNotFound,
    #[error("lease already exists")]
    LeaseExists,
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    #[error("key not found")]
    KeyNotFound,
    /// A member has no room, and the request would take more.
    #[error("no space: a member has raised an alarm")]
    NoSpace,
    /// Members do not hold the same state.
    #[error("corrupt: a member has raised an alarm")]
    Corrupt,
    /// One is enough.
    #[error("a downgrade is in progress")]
    DowngradeInProgress,
    #[error(transparent)]
    Auth(#[from] AuthRefusal),
}
