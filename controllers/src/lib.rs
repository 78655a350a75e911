//! Controllers: level-based loops that move the cluster from what is to what is wanted.
//!
//! Reading order: [`runtime`] (the loop and the only writer), [`catalog`] (the lists to add a line to), [`manager`]
//! (leader election, caches, start), then one file or folder per controller. A controller is `observe(cache, key)` and a
//! pure `reconcile(observed) -> Plan`. One manager acts at a time, and every write is fenced with its epoch.

pub mod args;
pub mod catalog;
pub mod deployment;
pub mod endpointslice;
pub mod events;
pub mod garbage_collector;
pub mod manager;
pub mod metrics;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod ownership;
pub mod pod_gc;
pub mod pods;
pub mod replicaset;
pub mod runtime;
pub mod scheduler;
pub mod service_account;
mod start;

pub use args::Config;
pub use manager::run;
