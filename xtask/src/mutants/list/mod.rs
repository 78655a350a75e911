//! The mutants: each is one bug that somebody could write, what it breaks, and the test that finds it. Those that chaos finds are in its
//! catalog, too (`chaos/simulation/src/plants`).

mod backup;
mod control_plane;
mod core;
mod harness;
mod planted;
mod raft;
mod reads;
mod service;
mod simulated;

/// One bug. `original` is there once in `file`, an expression or a statement; `mutated` takes its place.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    pub name: &'static str,
    /// In the repository, or below `dependencies/<name>` in a package that may be sown (`dependencies.rs`).
    pub file: &'static str,
    pub original: &'static str,
    pub mutated: &'static str,
    /// What goes wrong.
    pub breaks: &'static str,
    /// Target and name of each test that must fail; none for one that only chaos finds.
    pub killed_by: &'static [&'static str],
}

/// Returns all of them.
pub fn mutants() -> Vec<Mutant> {
    [
        core::MUTANTS,
        reads::MUTANTS,
        service::MUTANTS,
        backup::MUTANTS,
        simulated::MUTANTS,
        planted::MUTANTS,
        raft::MUTANTS,
        control_plane::MUTANTS,
        harness::MUTANTS,
    ]
    .concat()
}
