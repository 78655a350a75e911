//! One run after the other: several workloads, several seeds. Each has its folder and its page; an index and a table are over all of them.

use std::path::{Path, PathBuf};

use super::check::worst;
use super::{RunArgs, USAGE, doctor, options, tell};
use crate::report;
use crate::report::summary::Summary;
use crate::run::{Folder, INTERRUPTED, Options, run as run_workload, say};

/// Where runs go that are given no folder.
const FOLDER: &str = "chaos-runs";

/// One run to do, and where it goes.
struct Planned {
    options: Options,
    folder: PathBuf,
}

/// Does all runs that are asked for; returns the worst exit code.
pub(super) fn run(args: &RunArgs) -> anyhow::Result<u8> {
    let planned = match plan(args) {
        Ok(planned) => planned,
        Err(error) => {
            tell(&error);
            return Ok(USAGE);
        }
    };
    let index = index_folder(args, planned.len());
    let mut codes = Vec::new();
    let mut summaries = Vec::new();
    for planned in &planned {
        let code = one(planned)?;
        codes.push(code);
        let summary = report::summary(&planned.folder)?;
        let is_interrupted = summary.why.starts_with(INTERRUPTED);
        summaries.push(summary);
        if let Some(folder) = &index {
            report::write_index(folder)?;
        }
        if is_interrupted || (code != 0 && !args.keep_going) {
            break;
        }
    }
    if planned.len() > 1 {
        let done = summaries.len();
        say(&format!("{done} of {} runs:", planned.len()));
        summaries.iter().for_each(|summary| say(&summary.line()));
    }
    if let Some(folder) = &index {
        say(&format!("all runs: {}", folder.join(report::INDEX).display()));
    }
    Ok(worst(&codes))
}

/// Every workload with every seed, checked before the first begins.
fn plan(args: &RunArgs) -> anyhow::Result<Vec<Planned>> {
    anyhow::ensure!(args.test_count > 0, "--test-count must be at least 1");
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    let first = args.seed.unwrap_or(now);
    let count = u64::try_from(args.workload.len()).unwrap_or(u64::MAX).saturating_mul(args.test_count);
    anyhow::ensure!(!args.leave_running || count == 1, "--leave-running goes with one run");
    let mut planned = Vec::new();
    for number in 0..args.test_count {
        let seed = first.checked_add(number).ok_or_else(|| anyhow::anyhow!("--seed: too large"))?;
        for workload in &args.workload {
            let options = options(args, workload, seed)?;
            let folder = place(args.output.as_deref(), &options, count > 1);
            planned.push(Planned { options, folder });
        }
    }
    for workload in &args.workload {
        // Seeds change nothing of what a run needs.
        let first = planned.iter().find(|planned| planned.options.workload.name == workload.name);
        if let Some(Planned { options, .. }) = first
            && options.endpoints.is_empty()
            && let Some(refusal) = doctor::refusal(options)
        {
            anyhow::bail!(refusal);
        }
    }
    Ok(planned)
}

/// A single run has the folder that was asked for; several have one each in it.
fn place(output: Option<&Path>, options: &Options, is_one_of_several: bool) -> PathBuf {
    let name = format!("{}-{}", options.workload.name, options.seed);
    match (output, is_one_of_several) {
        (Some(output), true) => output.join(name),
        (Some(output), false) => output.to_owned(),
        (None, true) => Path::new(FOLDER).join(name),
        (None, false) => Path::new(FOLDER).join(options.seed.to_string()),
    }
}

/// Only a folder that is ours has an index: not whatever lies beside a folder that was asked for.
fn index_folder(args: &RunArgs, count: usize) -> Option<PathBuf> {
    match &args.output {
        None => Some(PathBuf::from(FOLDER)),
        Some(output) => (count > 1).then(|| output.clone()),
    }
}

fn one(planned: &Planned) -> anyhow::Result<u8> {
    let Planned { options, folder } = planned;
    let folder = Folder::create(folder)?;
    say(&options.reproduce());
    let outcome = run_workload(options, &folder)?;
    let report = outcome.text(&options.reproduce());
    say(report.split_once('\n').map_or(report.as_str(), |(_, rest)| rest).trim_end());
    let page = report::write_page(folder.path())?;
    say(&format!("history and report: {}", page.display()));
    Ok(outcome.exit_code())
}

impl Summary {
    /// One line of a table.
    pub(super) fn line(&self) -> String {
        let why = if self.why.is_empty() { String::new() } else { format!("  {}", self.why) };
        format!(
            "{:<8} {:<32} {:>7} operations {:>3} of {:>3} faults with witness {:>5} s{why}",
            self.verdict.word().to_uppercase(),
            format!("{} {}", self.workload, self.place),
            self.operations,
            self.faults_with_witness,
            self.faults,
            self.seconds,
        )
    }
}
