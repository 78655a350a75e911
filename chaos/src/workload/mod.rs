//! Workloads: what clients do while faults happen. Each is a pure generator and one kind of client that records everything.

mod client;
pub mod register;

pub use client::{Progress, Target, Worker};
