//! The store in one seeded process: real code with its gRPC services, simulated time, network and disks.
//!
//! A seed becomes a plan, a plan is carried out, and what clients saw is judged by chaos's checkers. The same plan leaves the same trace.
//! What stands on the store, for workloads of the `k8s` tier, is handed in ([`control_plane`]).
//! What this does not do: real system calls, threads, RocksDB. The real tier of chaos does.

pub mod plan;
pub mod swarm;

pub mod run;

pub mod command;
mod farm;
pub mod harness;
pub mod plants;
mod shrink;
mod workloads;

mod world;

pub mod control_plane;
mod outside;
pub mod sign_in;

mod machine;
mod member;
mod network;
mod replacement;

mod clients;
mod quiet;

mod links;
mod nemesis;

mod invariants;

pub use shrink::shrink;

/// The simulator as chaos's command line takes it. Without the feature nothing refers to the plants, and the linker leaves them out.
pub const SIMULATOR: chaos::cli::Simulator = chaos::cli::Simulator {
    sim: |args| command::sim(args, None),
    shrink,
    plants: if cfg!(feature = "plant") { Some(plants::plants) } else { None },
};
