//! Seeds of whole servers for every test run: fixed ones of each workload, those that once failed, and some twice.
//!
//! `cargo test --release -p simulation-kubernetes` runs all; `-- --exact NAME` runs one. What fails prints its command; this program
//! takes it, too: `sim --plan …`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test harness")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chaos::cli::SwarmArgs;
use simulation::command::{Orders, Totals, drawn, simulate, width};
use simulation::harness;
use simulation::plan::Plan;
use simulation_kubernetes::SIMULATOR;

/// Each test with what it simulates.
const TESTS: [harness::Test; 3] = [
    ("fixed_seeds", fixed_seeds),
    ("seeds_that_failed_once", seeds_that_failed_once),
    ("equal_seeds_leave_equal_traces", equal_seeds_leave_equal_traces),
];

/// Workloads, each with its first seed and the number of seeds.
const FIXED: [(&str, u64, u64); 6] = [
    ("k-occ", 5, 2),
    ("k-listwatch", 13, 2),
    ("k-replicas", 25, 2),
    ("k-sched", 32, 2),
    ("k-leader", 45, 2),
    ("k-orphans", 51, 2),
];
const TWICE: [(&str, u64, u64); 3] = [("k-replicas", 24, 1), ("k-sched", 35, 1), ("k-listwatch", 11, 1)];

fn main() -> ExitCode {
    harness::main(&SIMULATOR, &TESTS)
}

fn fixed_seeds() -> Totals {
    run("fixed", &FIXED, false)
}

fn seeds_that_failed_once() -> Totals {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap();
    let plans = harness::saved(repository, Plan::is_of_servers);
    carry_out("failed-once", &plans, false)
}

fn equal_seeds_leave_equal_traces() -> Totals {
    run("twice", &TWICE, true)
}

fn plans(workload: &str, first: u64, count: u64) -> Vec<Plan> {
    let (workload, nemesis) = (vec![workload.to_owned()], vec!["all".to_owned()]);
    drawn(first, count, &SwarmArgs { voters: vec![3], workload, nemesis }).unwrap()
}

fn run(name: &str, seeds: &[(&str, u64, u64)], meta: bool) -> Totals {
    let plans: Vec<Plan> =
        seeds.iter().flat_map(|(workload, first, count)| plans(workload, *first, *count)).collect();
    carry_out(name, &plans, meta)
}

fn carry_out(name: &str, plans: &[Plan], meta: bool) -> Totals {
    let output = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    simulate(plans, &Orders { output, keep: false, meta, width: width(None), limit: None }).unwrap()
}
