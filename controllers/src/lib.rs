//! Controllers: level-based loops that move the cluster from what is to what is wanted.
//!
//! Reading order: [`runtime`] (the loop and the only writer), [`catalog`] (the lists to add a line to), [`manager`]
//! (leader election, caches, start), then one file or folder per controller. A controller is `observe(cache, key)` and a
//! pure `reconcile(observed) -> Plan`. One manager acts at a time, and every write is fenced with its epoch.

pub mod args;
pub mod catalog;
pub mod deployment;
pub mod events;
pub mod manager;
pub mod metrics;
pub mod ownership;
pub mod pods;
pub mod replicaset;
pub mod runtime;
pub mod scheduler;
mod start;

pub use args::Config;
pub use manager::run;
