//! Consensus: the only module that names openraft. No openraft type is serialised; everything on disk and between
//! members is `keelson.raft.v1`.
//!
//! ```text
//! proposal ─► openraft core ─► log_store ─► WAL thread
//!                  │  └──────► network ─► peers' server
//!                  └─ committed ─► state_machine ─► mvcc::Store, watch hub, waiting clients
//! ```
//!
//! - [`types`]: what openraft is instantiated with.
//! - [`convert`]: openraft's types to and from the wire.
//! - [`log_store`]: the log on the WAL with its newest part in memory; [`log_driver`] starts what writes it.
//! - [`state_machine`]: applies to the MVCC core, builds and installs snapshots; [`saved_index`] spares a start most rows.
//! - [`network`], [`server`]: what members ask each other, both ends; [`append`]: the stream of entries; [`coalesce`] and [`forward`] save messages.
//! - [`address_book`]: where members are now; [`admission`]: how many proposals are taken at a time.
//! - [`members`]: who belongs to the cluster; [`reconfigure`] changes it, and [`change_wire`] carries changes to the leader.
//! - [`founding`]: the same for a state that is copied out or brought in.
//! - [`read_index`]: one confirmation of leadership for all who read.
//! - [`lost_leader`]: a leader whose process has ended is replaced before its silence would tell.
//! - [`request`]: a command and the feature level that it needs.
//! - [`silence`]: a member that does not answer its leader is told once.
//! - [`slow`]: where the time of slow requests went.
//! - [`together`]: whether log and database are of one piece.
//! - [`tuning`]: what openraft is told.
//! - [`node`]: one running raft member: start, propose, linearizable reads, hand-over.

pub(crate) mod address_book;
mod admission;
mod append;
pub(crate) mod change_wire;
pub(crate) mod coalesce;
pub(crate) mod convert;
pub(crate) mod forward;
pub(crate) mod founding;
mod log_driver;
pub(crate) mod log_store;
mod lost_leader;
pub(crate) mod members;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod read_index;
pub(crate) mod reconfigure;
pub(crate) mod request;
mod saved_index;
pub(crate) mod server;
mod silence;
pub(crate) mod slow;
pub(crate) mod snapshot;
pub(crate) mod state_machine;
pub(crate) mod together;
mod tuning;
pub(crate) mod types;

#[cfg(test)]
mod tests;
