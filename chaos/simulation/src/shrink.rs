//! The command `shrink`: leaves out parts of a plan as long as it fails with the same rule.
//!
//! Faults go in halves, then quarters, down to single ones; then the run gets shorter, clients fewer and slower.

use std::path::{Path, PathBuf};

use chaos::cli::ShrinkArgs;
use chaos::run::say;

use crate::command::{self, FAIL, PASS, USAGE};
use crate::farm::{self, Job};
use crate::plan::{self, Plan};
use crate::run::Summary;

/// The end of a run behind its last fault.
const TAIL_MS: u64 = 3_000;
const PERIOD_MS_MAX: u64 = 400;

/// Shrinks what is asked for; returns the exit code: 0 when a smaller plan that fails was found or there is none smaller.
///
/// # Errors
/// When the harness cannot do its work.
pub fn shrink(args: &ShrinkArgs) -> anyhow::Result<u8> {
    let plan = match plan(args) {
        Ok(plan) => plan,
        Err(error) => {
            say(&format!("keelson chaos shrink: {error:#}"));
            return Ok(USAGE);
        }
    };
    let default = PathBuf::from("chaos-runs").join(format!("shrunk-{}", plan.seed));
    let output = args.output.clone().unwrap_or(default);
    let mut trials = Trials {
        output: output.join("trials"),
        width: command::width(args.jobs),
        count: 0,
        rule: String::new(),
    };
    let Some(first) = trials.fails(std::slice::from_ref(&plan))? else {
        say(&format!("seed {} with {} voters passes: there is nothing to shrink", plan.seed, plan.voters));
        trials.clear();
        return Ok(FAIL);
    };
    trials.rule = rule(&first.1);
    let small = trials.shrunk(plan)?;
    trials.clear();
    let folder = output.join("smallest");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let mut last = None;
    farm::run(
        &[Job { program: None, plan: small.clone(), folder: folder.clone(), environment: Vec::new() }],
        1,
        |_, summary| {
            last = Some(summary);
            true
        },
    )?;
    say(&format!(
        "{} trials; smallest: {} faults, {} clients every {} ms, {} ms",
        trials.count,
        small.faults.len(),
        small.clients,
        small.period_ms,
        small.lasts_ms
    ));
    for finding in last.map(|summary| summary.findings).unwrap_or_default().iter().take(3) {
        say(&format!("  {finding}"));
    }
    say(&format!("  repeat it with: {}", command::replay(&folder.join("plan.json"))));
    Ok(PASS)
}

fn plan(args: &ShrinkArgs) -> anyhow::Result<Plan> {
    if let Some(folder) = &args.folder {
        return plan::read(&folder.join("plan.json"));
    }
    let seed = args.seed.unwrap_or(0);
    let plans = command::drawn(seed, 1, &args.swarm)?;
    plans.into_iter().next().ok_or_else(|| anyhow::anyhow!("--voters names no number"))
}

/// Runs of smaller plans.
struct Trials {
    output: PathBuf,
    width: usize,
    count: usize,
    /// The rule that the first plan broke; empty for any.
    rule: String,
}

impl Trials {
    fn shrunk(&mut self, plan: Plan) -> anyhow::Result<Plan> {
        let plan = self.with_fewer_faults(plan)?;
        let plan = self.shorter(plan)?;
        let plan = self.with_fewer_clients(plan)?;
        self.with_fewer_faults(plan)
    }

    /// Delta debugging over the list of faults.
    fn with_fewer_faults(&mut self, mut plan: Plan) -> anyhow::Result<Plan> {
        let mut chunk = plan.faults.len().div_ceil(2);
        while chunk > 0 && !plan.faults.is_empty() {
            let candidates: Vec<Plan> =
                (0..plan.faults.len()).step_by(chunk).map(|at| without(&plan, at, chunk)).collect();
            match self.fails(&candidates)? {
                Some((smaller, _)) => {
                    plan = smaller;
                    say(&format!("{} faults left after {} trials", plan.faults.len(), self.count));
                    chunk = chunk.min(plan.faults.len().div_ceil(2));
                }
                None if chunk == 1 => break,
                None => chunk = chunk.div_ceil(2),
            }
        }
        Ok(plan)
    }

    fn shorter(&mut self, plan: Plan) -> anyhow::Result<Plan> {
        let last = plan.faults.iter().map(|planned| planned.at_ms + planned.lasts_ms).max().unwrap_or(0);
        let lasts_ms = (last + TAIL_MS).min(plan.lasts_ms);
        if lasts_ms == plan.lasts_ms {
            return Ok(plan);
        }
        let shorter = Plan { lasts_ms, ..plan.clone() };
        Ok(self.fails(&[shorter])?.map_or(plan, |(shorter, _)| shorter))
    }

    fn with_fewer_clients(&mut self, mut plan: Plan) -> anyhow::Result<Plan> {
        loop {
            let mut candidates = Vec::new();
            if plan.clients > 1 {
                candidates.push(Plan { clients: plan.clients / 2, ..plan.clone() });
            }
            if plan.period_ms * 2 <= PERIOD_MS_MAX {
                candidates.push(Plan { period_ms: plan.period_ms * 2, ..plan.clone() });
            }
            match self.fails(&candidates)? {
                Some((smaller, _)) => plan = smaller,
                None => return Ok(plan),
            }
        }
    }

    /// Returns the first of these plans that fails as the whole one does.
    fn fails(&mut self, candidates: &[Plan]) -> anyhow::Result<Option<(Plan, Summary)>> {
        let jobs: Vec<Job> = candidates
            .iter()
            .enumerate()
            .map(|(place, plan)| Job {
                program: None,
                plan: plan.clone(),
                folder: self.output.join(format!("{}", self.count + place)),
                environment: Vec::new(),
            })
            .collect();
        self.count += jobs.len();
        let rule_wanted = self.rule.clone();
        let mut failed: Option<(usize, Summary)> = None;
        farm::run(&jobs, self.width, |place, summary| {
            let is_the_same = rule_wanted.is_empty() || rule(&summary) == rule_wanted;
            let is_first = failed.as_ref().is_none_or(|(first, _)| place < *first);
            if summary.verdict == "fail" && is_the_same && is_first {
                failed = Some((place, summary));
            }
            failed.is_none()
        })?;
        Ok(failed.and_then(|(place, summary)| Some((candidates.get(place)?.clone(), summary))))
    }

    fn clear(&self) {
        remove(&self.output);
    }
}

fn remove(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder) {
        tracing::warn!(%error, folder = %folder.display(), "the trials stay behind");
    }
}

/// The plan without some of its faults.
fn without(plan: &Plan, at: usize, count: usize) -> Plan {
    let left = plan.faults.iter().enumerate().filter(|(place, _)| *place < at || *place >= at + count);
    Plan { faults: left.map(|(_, planned)| planned.clone()).collect(), ..plan.clone() }
}

/// The rule that a run broke first.
fn rule(summary: &Summary) -> String {
    let first = summary.findings.first().map(String::as_str).unwrap_or_default();
    first.split(':').next().unwrap_or_default().to_owned()
}
