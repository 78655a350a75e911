//! Three members of the real store in one process, under simulated time, network and disks, all from one seed.
//!
//! Every run executes twelve fixed seeds and one of them twice: the same seed must leave the same trace, or no seed is
//! worth anything. A failure prints its seed; `cargo test --release -p store --test simulation -- --seed N` repeats it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::as_conversions,
    reason = "a test harness"
)]

mod checker;
mod cluster;
mod history;
mod network;

use std::process::ExitCode;

use cluster::Outcome;

/// Seeds of every test run.
const SEEDS: [u64; 12] = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Test runners ask a harness what it holds.
    if arguments.iter().any(|argument| argument == "--list") {
        println!("simulation: test");
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--trace") {
        tracing_subscriber::fmt().with_env_filter("store=debug,openraft=info").with_ansi(false).init();
    }
    let chosen = arguments.iter().skip_while(|argument| *argument != "--seed").nth(1);
    let failed = match chosen.map(|seed| seed.parse::<u64>()) {
        Some(Ok(seed)) => usize::from(!run(seed).1),
        Some(Err(_)) => {
            println!("--seed needs a number");
            return ExitCode::from(64);
        }
        None => run_all(),
    };
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Each seed gets a process of its own: a dependency keeps random state per thread, which a second run would inherit.
fn run_all() -> usize {
    checker::self_test();
    let results: Vec<(String, bool)> = SEEDS.into_iter().map(run_in_process).collect();
    let mut failed = results.iter().filter(|(_, passed)| !passed).count();
    let (again, _) = run_in_process(SEEDS[0]);
    if again != results[0].0 {
        println!("seed {}: two runs left different traces, {} and {again}", SEEDS[0], results[0].0);
        failed += 1;
    }
    failed
}

/// Returns the trace hash that a run printed, and whether it passed.
fn run_in_process(seed: u64) -> (String, bool) {
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program).args(["--seed", &seed.to_string()]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    if !output.status.success() {
        println!("seed {seed} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let trace = text.split("trace ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default();
    (trace.to_owned(), output.status.success())
}

/// Runs one seed; returns its trace hash and whether it passed.
fn run(seed: u64) -> (u64, bool) {
    let started = std::time::Instant::now();
    let Outcome { history, finals, trace, faults } = cluster::run(seed);
    let mut verdict = checker::check(&history, &finals);
    if !faults.replaced {
        verdict.push("the member that died was not replaced".to_owned());
    }
    if faults.fatals > 0 {
        verdict.push("a member ended although its disk was well".to_owned());
    }
    let counts = history.counts();
    println!(
        "seed {seed}: {} ok, {} unknown, {} failed, {faults}, trace {trace:016x}, {:.1} s: {}",
        counts.ok,
        counts.unknown,
        counts.failed,
        started.elapsed().as_secs_f64(),
        if verdict.is_empty() { "pass" } else { "FAIL" }
    );
    for violation in verdict.iter().take(10) {
        println!("  {violation}");
    }
    (trace, verdict.is_empty())
}
