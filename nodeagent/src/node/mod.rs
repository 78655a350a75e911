//! The node's own object: registration, status and heartbeat.

mod facts;
mod heartbeat;
mod registration;

pub use facts::{Machine, machine, node_dns};
pub use heartbeat::{Health, run_lease, run_status};
pub use registration::{NodeDescription, register};
