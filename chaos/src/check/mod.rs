//! Checkers: pure functions from a history to a verdict.

pub mod judge;
pub mod verdict;
pub mod witness;

pub use verdict::{Verdict, Violation};
