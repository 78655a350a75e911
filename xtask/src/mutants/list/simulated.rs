//! Bugs that need several members, crashes and messages at odd times: only the simulation has all of them.

use super::Mutant;

const SEEDS: &[&str] = &["seeds fixed_seeds"];

pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "read-ahead-of-apply",
        file: "store/src/raft/node.rs",
        original: "self.wait_applied(index, deadline).await",
        mutated: "true",
        breaks: "a confirmed read does not wait until this member has applied what it covers",
        killed_by: SEEDS,
    },
    Mutant {
        name: "read-without-quorum",
        file: "store/src/raft/node.rs",
        original: "node?.read_index_round().await",
        mutated: "Some(node?.machine().applied().map_or(0, |id| id.index()))",
        breaks: "a read is confirmed by nobody",
        killed_by: SEEDS,
    },
];
