//! The rules of membership, without log, network or clock: what a change does to the members that the leader knows, and why it is
//! refused. Every change is decided on applied membership and written under the condition that nothing changed since, so of two
//! changes the first one wins and the second is decided anew.
//!
//! ```text
//! add ─► unstarted ──publish (incarnation)──► learner ──in sync──► voter
//!            └───────────────┴──remove──────────┴────────────────────┴─► its id never returns
//! ```
//!
//! A replacement is a member that names another one: added at once, it takes the vote in one change of two entries when it has caught up,
//! so the cluster never has a vote more or less than before.
//!
//! - [`change`]: the changes and how one is decided.
//! - [`address`]: peer URLs, and ids of new members.
//! - [`health`]: whether enough members are there for a change (etcd's strict reconfiguration check).

mod address;
mod change;
mod health;

pub(crate) use address::{checked_urls, new_member_id};
pub(crate) use change::{Change, Decision, Denial, Kind, Known, View, decide, due};

#[cfg(test)]
mod tests;
