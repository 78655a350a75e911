//! Seeds of every test run: fixed ones, fresh ones that follow from the commit, those that once failed, and the same seed twice.
//!
//! `cargo test --release -p simulation` runs all; `-- --exact NAME` runs one of the four. What fails prints its command.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test harness")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use chaos::cli::SwarmArgs;
use simulation::command::{Orders, Totals, drawn, simulate, width};
use simulation::plan::Plan;
use simulation::{SIMULATOR, harness};

/// Each test with what it simulates.
const TESTS: [harness::Test; 4] = [
    ("fixed_seeds", fixed_seeds),
    ("fresh_seeds", fresh_seeds),
    ("seeds_that_failed_once", seeds_that_failed_once),
    ("equal_seeds_leave_equal_traces", equal_seeds_leave_equal_traces),
];

const FIXED_FIRST: u64 = 1;
const FIXED: u64 = 14;
const FRESH: u64 = 16;
/// How many fresh runs may prove nothing.
const REPLACED_MAX: u64 = 2;
/// Fresh seeds end here on a machine that is busy: their number is no promise.
const FRESH_LIMIT: Duration = Duration::from_secs(90);
const TWICE: u64 = 3;

fn main() -> ExitCode {
    harness::main(&SIMULATOR, &TESTS)
}

fn fixed_seeds() -> Totals {
    run("fixed", &plans(FIXED_FIRST, FIXED), None, false)
}

/// The heaviest faults may leave too little to judge. Such a run proves nothing, and another seed takes its place; seldom.
fn fresh_seeds() -> Totals {
    let first = seed_of_commit();
    let mut totals = run("fresh", &plans(first, FRESH), Some(FRESH_LIMIT), false);
    let invalid = u64::try_from(totals.invalid).unwrap();
    if (1..=REPLACED_MAX).contains(&invalid) {
        println!("{}; as many others for those that are invalid:", totals.line());
        let others = run("fresh-others", &plans(first + FRESH, invalid), Some(FRESH_LIMIT), false);
        totals.passed += others.passed;
        totals.failed += others.failed;
        totals.invalid = others.invalid;
        totals.operations += others.operations;
        totals.faults += others.faults;
        totals.virtual_time += others.virtual_time;
        totals.real += others.real;
    }
    totals
}

fn equal_seeds_leave_equal_traces() -> Totals {
    run("twice", &plans(FIXED_FIRST, TWICE), None, true)
}

fn seeds_that_failed_once() -> Totals {
    // Those of whole servers are repeated where those are.
    let plans = harness::saved(repository(), |plan| !plan.is_of_servers());
    run("failed-once", &plans, None, false)
}

fn plans(first: u64, count: u64) -> Vec<Plan> {
    let all = vec!["all".to_owned()];
    drawn(first, count, &SwarmArgs { voters: vec![3, 5], workload: all.clone(), nemesis: all }).unwrap()
}

fn run(name: &str, plans: &[Plan], limit: Option<Duration>, meta: bool) -> Totals {
    let output = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    simulate(plans, &Orders { output, keep: false, meta, width: width(None), limit }).unwrap()
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// Every commit explores new ground, and a run of the same commit repeats.
fn seed_of_commit() -> u64 {
    let asked = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(repository()).output();
    let hash = asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    // A source without history has one set of fresh seeds.
    u64::from_str_radix(hash.get(..8).unwrap_or_default(), 16).unwrap_or(1_000_000)
}
