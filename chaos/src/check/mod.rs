//! Checkers: pure functions from a history to a verdict.

pub mod judge;
pub mod record;

pub mod versions;
pub mod witness;

pub mod convergence;

pub mod bank;
pub mod compaction;
pub mod counter;
pub mod kubernetes;
pub mod lease;
pub mod lock;
pub mod set;
pub mod snapshot;
pub mod watch;

pub mod opinions;

pub mod append;
pub mod linearizability;
pub mod registers;

pub mod verdict;

mod clocks;
#[cfg(test)]
mod exchanged;
#[cfg(test)]
mod mutation;

pub use record::Record;
pub use verdict::{Verdict, Violation};
