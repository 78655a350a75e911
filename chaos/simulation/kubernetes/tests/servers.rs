//! Seeds of whole servers for every test run: fixed ones of each workload, those that once failed, and some twice.
//!
//! `cargo test --release -p simulation-kubernetes` runs all; `-- --exact NAME` runs one. What fails prints its command; this program
//! takes it, too: `sim --plan …`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test harness")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chaos::cli::{ShrinkArgs, SimArgs, SwarmArgs};
use clap::Parser;
use simulation::command::{Orders, Totals, drawn, simulate, width};
use simulation::plan::Plan;
use simulation_kubernetes::SIMULATOR;

type Test = (&'static str, fn() -> Totals);

/// Each test with what it simulates.
const TESTS: [Test; 3] = [
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

/// A run of one plan comes back to this program.
#[derive(Parser)]
enum Commands {
    Sim(Box<SimArgs>),
    Shrink(Box<ShrinkArgs>),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "sim" || first == "shrink") {
        let code = match Commands::parse() {
            Commands::Sim(args) => (SIMULATOR.sim)(&args),
            Commands::Shrink(args) => (SIMULATOR.shrink)(&args),
        };
        return ExitCode::from(code.unwrap());
    }
    // Test runners ask a harness what it holds.
    if arguments.iter().any(|argument| argument == "--list") {
        TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let exact = arguments.iter().skip_while(|argument| *argument != "--exact").nth(1);
    let part = arguments.first().filter(|first| !first.starts_with('-'));
    let chosen = TESTS.iter().filter(|(name, _)| {
        exact.is_none_or(|exact| exact == name) && part.is_none_or(|part| name.contains(part.as_str()))
    });
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in chosen {
        let totals = test();
        let verdict = if totals.code() == 0 { "ok" } else { "FAILED" };
        println!("{}", totals.line());
        println!("test {name} ... {verdict}");
        if totals.code() == 0 { passed += 1 } else { failed += 1 }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn fixed_seeds() -> Totals {
    run("fixed", &FIXED, false)
}

fn seeds_that_failed_once() -> Totals {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap().join("chaos/seeds");
    let mut plans = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let content: serde_json::Value = serde_json::from_str(&text).unwrap();
        let plan: Plan = serde_json::from_value(content.get("plan").unwrap().clone()).unwrap();
        if plan.is_of_servers() {
            plans.push(plan);
        }
    }
    assert!(!plans.is_empty(), "no plan was found");
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
