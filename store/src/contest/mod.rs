//! Contests for a name, as etcd's lock and election services hold them: everybody who wants the name writes a key below it, bound
//! to a lease; the key that was created first has the name, and the next one waits until that key is gone.
//!
//! - [`turn`]: the rules, as transactions to send and answers to read; pure.
//! - [`leaders`]: who led a name, from its changes; pure.
//! - [`session`]: the lease that an entry lives by.
//! - [`contender`]: one call that wants the name, to its end and with its cleanup.
//! - [`calls`]: the calls under way on this member.
//!
//! This is a client of the store that happens to live in it: it uses [`Kv`](crate::kv::Kv) alone and knows no rule of the log. It
//! does **not** fence: who holds a name may have lost it without knowing, and must carry the create revision of its key to
//! whatever it protects. Whether a caller may enter is decided before it comes here; from then on the contest is the server's own,
//! so that its cleanup is never refused.

mod calls;
mod contender;
mod leaders;
mod session;
#[cfg(test)]
mod tests;
mod turn;

pub(crate) use calls::Contests;
pub(crate) use contender::Application;
pub(crate) use leaders::{Leaders, LedAt};
pub(crate) use turn::{Place, entering, entries, first_entry};

use crate::kv::KvError;

/// Why a name was not won, or a winner's call refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ContestError {
    #[error(transparent)]
    Kv(#[from] KvError),
    /// The lease ended, and the entry with it.
    #[error("the session has expired")]
    SessionExpired,
    #[error("the caller does not lead")]
    NotLeader,
    #[error("nobody leads")]
    NoLeader,
    #[error("the leader is not named")]
    LeaderNotGiven,
    #[error("observing ended early")]
    ObserveEnded,
}
