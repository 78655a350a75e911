//! The node's own object: registration, status and heartbeat.

mod facts;
mod heartbeat;
mod registration;

pub use facts::{Machine, machine, node_dns};
pub use heartbeat::{Health, StatusReporter, run_lease};
pub use registration::{NodeDescription, register};
