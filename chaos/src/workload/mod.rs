//! Workloads: what clients do while faults happen, what is asked once more at the end, and which checkers judge it.
//!
//! One file each: a pure generator, and what a client does with what it draws. A new one gets a line in [`WORKLOADS`].

mod client;
mod values;
mod watch_stream;

mod append;
mod cas;
mod compact;
mod kubernetes;
mod lease;
mod lock;
mod register;
mod set;
mod snapshot;
mod txn;
mod watch;

use std::sync::Arc;

use async_trait::async_trait;

pub use client::{Asked, Client, Progress, Session, Target};

/// Every workload, by name.
pub const WORKLOADS: &[Entry] = &[
    register::ENTRY,
    cas::ENTRY,
    set::ENTRY,
    append::ENTRY,
    txn::ENTRY,
    watch::ENTRY,
    lease::ENTRY,
    lock::ENTRY,
    compact::ENTRY,
    snapshot::ENTRY,
    kubernetes::occ::ENTRY,
    kubernetes::list_watch::ENTRY,
    kubernetes::replicas::ENTRY,
    kubernetes::scheduling::ENTRY,
    kubernetes::leader::ENTRY,
    kubernetes::orphans::ENTRY,
    kubernetes::node::ENTRY,
];

/// A workload in the list.
#[derive(Debug)]
pub struct Entry {
    pub name: &'static str,
    /// What clients do, in one line.
    pub about: &'static str,
    /// Checkers without whose opinion a run proves nothing.
    pub checkers: &'static [&'static str],
    /// Whether it changes more of a store than the keys of its own.
    pub needs_own_store: bool,
    pub tier: Tier,
    pub nodes: Nodes,
    pub create: fn(&Setup) -> Arc<dyn Workload>,
}

/// What members of a run are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// A store alone.
    Store,
    /// A store with an API server, controllers and scheduler on top of it, and agents beside.
    Kubernetes,
}

/// What the nodes of the tier with whole servers are; a store alone has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// Containers in memory.
    Hollow,
    /// Containers that the kernel knows, each node with a runtime of its own.
    Real,
}

/// What a workload is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    pub seed: u64,
    /// Begins every key.
    pub prefix: String,
    /// Number of members that clients go round.
    pub members: u32,
}

/// One workload of one run. Equal setups give equal operations.
#[async_trait]
pub trait Workload: Send + Sync {
    /// Does operations until the client has no more turns.
    async fn work(self: Arc<Self>, client: Client) -> std::io::Result<()>;

    /// Asks once more through one member when all faults are over: everything that a checker must see.
    async fn finish(self: Arc<Self>, client: Client) -> std::io::Result<()>;
}

/// Returns the workload of this name.
///
/// # Errors
/// A sentence with the names that there are.
pub fn named(name: &str) -> Result<&'static Entry, String> {
    WORKLOADS.iter().find(|entry| entry.name == name).ok_or_else(|| {
        let names: Vec<&str> = WORKLOADS.iter().map(|entry| entry.name).collect();
        format!("there is no workload {name}: choose from {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::opinions::CHECKERS;

    #[test]
    fn names_are_unique_and_every_checker_exists() {
        for entry in WORKLOADS {
            assert_eq!(WORKLOADS.iter().filter(|other| other.name == entry.name).count(), 1);
            assert!(!entry.checkers.is_empty(), "{} is judged by nobody", entry.name);
            for name in entry.checkers {
                assert!(CHECKERS.iter().any(|checker| checker.name == *name), "{}: {name}", entry.name);
            }
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_there_are() {
        assert!(named("register").is_ok());
        assert!(named("regsiter").unwrap_err().contains("choose from register"));
    }
}
