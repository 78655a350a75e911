//! The tests of seeds as programs: a run of one plan is a process of its own, which the program of the test starts as itself.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test harness")]

use std::path::Path;
use std::process::ExitCode;

use chaos::cli::{ShrinkArgs, SimArgs, Simulator};
use clap::Parser;

use crate::command::Totals;
use crate::plan::{self, Plan};

/// A test by its name, and what it simulates.
pub type Test = (&'static str, fn() -> Totals);

/// A run of one plan comes back to the program.
#[derive(Parser)]
enum Commands {
    Sim(Box<SimArgs>),
    Shrink(Box<ShrinkArgs>),
}

/// Runs the tests that the arguments name, as a test runner names them: all, those that hold a word, or one with `--exact`.
///
/// # Panics
/// When the harness cannot do its work.
#[must_use]
pub fn main(simulator: &Simulator, tests: &[Test]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "sim" || first == "shrink") {
        let code = match Commands::parse() {
            Commands::Sim(args) => (simulator.sim)(&args),
            Commands::Shrink(args) => (simulator.shrink)(&args),
        };
        return ExitCode::from(code.unwrap());
    }
    // Test runners ask a harness what it holds.
    if arguments.iter().any(|argument| argument == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let exact = arguments.iter().skip_while(|argument| *argument != "--exact").nth(1);
    let part = arguments.first().filter(|first| !first.starts_with('-'));
    let chosen = tests.iter().filter(|(name, _)| {
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

/// Returns the plans that failed once and that `is_wanted`.
///
/// # Panics
/// When one cannot be read, or none is wanted.
#[must_use]
pub fn saved(repository: &Path, is_wanted: impl Fn(&Plan) -> bool) -> Vec<Plan> {
    let files = std::fs::read_dir(repository.join("chaos/seeds")).unwrap().map(|entry| entry.unwrap().path());
    let plans = files.filter(|file| file.extension().is_some_and(|extension| extension == "json"));
    let wanted: Vec<Plan> = plans.map(|file| plan::read(&file).unwrap()).filter(is_wanted).collect();
    assert!(!wanted.is_empty(), "no plan was found");
    wanted
}
