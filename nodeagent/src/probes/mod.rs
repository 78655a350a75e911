//! Runs a container's probes: one task per probe, as long as the container runs.
//!
//! The thresholds are the pure core's ([`crate::pod::probe_state`]); here is only when to ask and how.

mod handlers;
mod schedule;

pub use handlers::{Handler, Target, run_handler};
pub use schedule::{Report, run};
