//! `keelson chaos ci`: the full set within a budget of time, with one page and one JSON file over all of it.

mod matrix;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;

use self::matrix::{Bundle, Choice, Planned, Store};
use super::check::{self, worst};
use super::{Command, CommandLine, duration, series, tell};
use crate::nemesis::{missing_for_containers, turns, turns_of};
use crate::report;
use crate::report::summary::Summary;
use crate::run::{INTERRUPTED, say};
use crate::workload::{Nodes, WORKLOADS};

/// Debian's place for it.
const ETCD: &str = "/usr/bin/etcd";
/// What every set is called by default: its seed stands behind it.
const FOLDER: &str = "chaos-runs/ci";

#[derive(Clone, Debug, clap::Args)]
pub(super) struct CiArgs {
    /// Time for all of it
    #[arg(long, default_value = "60m", value_parser = duration)]
    budget: Duration,
    /// Seed of the first run, and of what is left out when the budget is small [default: the time]
    #[arg(long)]
    seed: Option<u64>,
    /// What members run [default: this binary]
    #[arg(long)]
    binary: Option<PathBuf>,
    /// The etcd that the harness itself is checked against; skipped where it is not
    #[arg(long, default_value = ETCD)]
    etcd: PathBuf,
    /// Folder of labelled histories (Porcupine's test data): checks the checkers first
    #[arg(long)]
    golden: Option<PathBuf>,
    /// Folder for the runs, the page and ci.json [default: chaos-runs/ci-SEED]
    #[arg(long)]
    output: Option<PathBuf>,
}

/// What has been done.
#[derive(Default)]
struct Done {
    codes: Vec<u8>,
    runs: Vec<Summary>,
    /// Runs that the harness could not do.
    broken: Vec<String>,
    left_out: usize,
}

/// Runs the set; returns the worst exit code.
pub(super) fn run(args: &CiArgs) -> anyhow::Result<u8> {
    let began = Instant::now();
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    let seed = args.seed.unwrap_or(now);
    let folder = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{FOLDER}-{seed}")));
    std::fs::create_dir_all(&folder)?;
    let mut done = Done::default();
    if let Some(golden) = &args.golden {
        done.codes.push(check::check_golden(golden)?);
    }
    let choice = Choice {
        workloads: workloads(missing_for_containers().as_deref()),
        bundles: bundles(),
        has_etcd: args.etcd.exists(),
        budget: args.budget.saturating_sub(began.elapsed()),
        seed,
    };
    if !choice.has_etcd {
        say(&format!("skipped: the runs on etcd, {} is not there (--etcd)", args.etcd.display()));
    }
    let mut planned = matrix::plan(&choice);
    planned.retain(can_be_run);
    say(&format!("ci --seed {seed}: up to {} runs", planned.len()));
    for (place, planned) in planned.iter().enumerate() {
        if !planned.fits(args.budget.saturating_sub(began.elapsed())) {
            done.left_out += 1;
            continue;
        }
        one(args, planned, &folder.join(planned.name(place)), &mut done);
        if done.runs.last().is_some_and(|run| run.why.starts_with(INTERRUPTED)) {
            break;
        }
    }
    let code = done.code();
    finish(&folder, seed, args.budget, began.elapsed(), &done)?;
    Ok(code)
}

/// Every workload there is, but for those whose containers cannot run here.
fn workloads(missing: Option<&str>) -> Vec<String> {
    let mut names = Vec::new();
    for workload in WORKLOADS {
        match (workload.nodes, missing) {
            (Nodes::Real, Some(missing)) => say(&format!("skipped: {}, {missing}", workload.name)),
            (Nodes::Real, None) | (Nodes::Hollow, _) => names.push(workload.name.to_owned()),
        }
    }
    names
}

/// Not every bundle holds something for every workload: wall clocks of whole servers stay as they are.
fn can_be_run(planned: &Planned) -> bool {
    let workload = WORKLOADS.iter().find(|workload| workload.name == planned.workload);
    workload.is_some_and(|workload| turns_of(std::slice::from_ref(&planned.nemesis), workload).is_ok())
}

/// The bundles, each with as many turns as it holds.
fn bundles() -> Vec<Bundle> {
    let named = matrix::BUNDLES.iter().map(|&name| {
        let turns = turns(&[name.to_owned()]).map_or(0, |turns| turns.len());
        Bundle { nemesis: name.to_owned(), turns }
    });
    named.collect()
}

/// Does one run and says a line about it.
fn one(args: &CiArgs, planned: &Planned, folder: &Path, done: &mut Done) {
    match attempt(args, planned, folder) {
        Ok(code) => {
            done.codes.push(code);
            if let Ok(summary) = report::summary(folder) {
                say(&summary.line());
                done.runs.push(summary);
            }
        }
        Err(error) => {
            tell(&error);
            done.broken.push(format!("{}: {error:#}", folder.display()));
        }
    }
}

fn attempt(args: &CiArgs, planned: &Planned, folder: &Path) -> anyhow::Result<u8> {
    let mut words: Vec<String> =
        ["run", "--workload", &planned.workload, "--nemesis", &planned.nemesis].map(ToOwned::to_owned).into();
    let mut flag = |name: &str, value: String| words.extend([format!("--{name}"), value]);
    flag("members", planned.members.to_string());
    flag("seed", planned.seed.to_string());
    flag("time-limit", format!("{}s", planned.time_limit.as_secs()));
    flag("output", folder.display().to_string());
    match (planned.store, &args.binary) {
        (Store::Etcd, _) => flag("binary", args.etcd.display().to_string()),
        (Store::Ours, Some(binary)) => flag("binary", binary.display().to_string()),
        (Store::Ours, None) => {}
    }
    // The same door as everybody's: what a run means is said in one place.
    let line = CommandLine::try_parse_from(std::iter::once("chaos".to_owned()).chain(words))?;
    match line.command {
        Command::Run(args) => {
            let code = series::run(&args)?;
            // What cannot be run here is said above; it must not look like a pass.
            anyhow::ensure!(code != super::USAGE, "refused: {}", folder.display());
            Ok(code)
        }
        _ => anyhow::bail!("a set is made of runs only"),
    }
}

impl Done {
    fn code(&self) -> u8 {
        if !self.broken.is_empty() && worst(&self.codes) != super::FAIL {
            return super::HARNESS;
        }
        // A set that did nothing shows nothing.
        if self.runs.is_empty() { super::INVALID } else { worst(&self.codes) }
    }
}

/// Writes the page and the JSON file, and says the totals.
fn finish(folder: &Path, seed: u64, budget: Duration, took: Duration, done: &Done) -> anyhow::Result<()> {
    let operations: u64 = done.runs.iter().map(|run| run.operations).sum();
    let faults: usize = done.runs.iter().map(|run| run.faults_with_witness).sum();
    let seeds: Vec<&str> = done.runs.iter().map(|run| run.seed.as_str()).collect();
    let content = json!({
        "seed": seed,
        "budget_seconds": budget.as_secs(),
        "took_seconds": took.as_secs(),
        "exit_code": done.code(),
        "operations": operations,
        "faults_with_witness": faults,
        "left_out": done.left_out,
        "broken": done.broken,
        "runs": done.runs,
    });
    std::fs::write(folder.join("ci.json"), format!("{content:#}\n"))?;
    let page = report::write_index(folder)?;
    say(&format!(
        "{} runs, {operations} operations, {faults} faults with witness, {} left out, {} s; seeds {}",
        done.runs.len(),
        done.left_out,
        took.as_secs(),
        seeds.join(" ")
    ));
    say(&format!("{} and ci.json", page.display()));
    Ok(())
}
