//! A member of the replicated store: what callers in the same process hold.
//!
//! - [`start`]: from settings to a running member.
//! - [`bootstrap`]: how a new cluster comes to be, exactly once.
//! - [`join`]: how a member that was added finds out who it is.
//! - [`upkeep`]: a running member's own place in the cluster.
//! - [`serve`]: the peer port.
//! - [`kv`]: the store's interface on top of raft.
//! - [`admin`]: members and maintenance.
//! - [`guarded`]: clients and their rights.
//! - [`observer`]: what happens beside the store when entries are applied.
//! - [`space`]: the quota, the disk and their alarm.
//! - [`level`]: what all members support.
//! - [`divergence`]: whether all members hold the same.
//! - [`room`]: the reserve on the disk; pure.
//! - [`auto_compaction`]: history that nobody asks to forget.
//! - [`leases`]: lease clocks, of which only the leader's counts.

mod admin;
mod auto_compaction;
mod bootstrap;
mod divergence;
mod guarded;
mod join;
mod kv;
mod leases;
mod level;
mod observer;
mod room;
mod serve;
mod space;
mod start;
mod upkeep;

pub use auto_compaction::AutoCompaction;
pub use join::JoinError;
pub(crate) use leases::Leases;
pub(crate) use room::Room;
pub use start::{Member, MemberConfig, MemberError, RAFT_THREAD};
