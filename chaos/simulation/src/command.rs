//! The command `sim`: seeds, plans, and what is told of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chaos::cli::{SimArgs, SwarmArgs};
use chaos::run::say;
use clap::ValueEnum;

use crate::control_plane::MakeControlPlane;
use crate::farm::{self, Job};
use crate::plan::{self, Kind, Plan};
use crate::run::{self, Summary};
use crate::swarm::{self, Wanted};
use crate::workloads;

pub(crate) const PASS: u8 = 0;
pub(crate) const FAIL: u8 = 1;
pub(crate) const INVALID: u8 = 2;
pub(crate) const USAGE: u8 = 254;
/// Findings shown of one seed; its folder has all.
const FINDINGS_SHOWN: usize = 5;

/// Simulates what is asked for; returns the exit code. Whole servers are simulated where it is given what stands on a member.
///
/// # Errors
/// When the harness cannot do its work.
pub fn sim(args: &SimArgs, control_plane: Option<MakeControlPlane>) -> anyhow::Result<u8> {
    if args.here {
        return here(args, control_plane);
    }
    let plans = match plans(args).and_then(|plans| simulable(plans, control_plane)) {
        Ok(plans) => plans,
        Err(error) => {
            say(&format!("keelson chaos sim: {error:#}"));
            return Ok(USAGE);
        }
    };
    let output = args.output.clone().unwrap_or_else(|| PathBuf::from("chaos-runs").join("sim"));
    let orders =
        Orders { output, keep: args.keep, meta: args.meta, width: width(args.jobs), limit: args.time_limit };
    let totals = simulate(&plans, &orders)?;
    say(&totals.line());
    Ok(totals.code())
}

/// Carries out one plan in this process.
fn here(args: &SimArgs, control_plane: Option<MakeControlPlane>) -> anyhow::Result<u8> {
    let path = args.plan.clone().unwrap_or_default();
    let plan = plan::read(&path)?;
    let output = args.output.clone().unwrap_or_else(|| PathBuf::from("."));
    let summary = run::run(&plan, &run::folder(&output)?, &replay(&path), control_plane)?;
    say(&serde_json::to_string(&summary)?);
    Ok(code(&summary))
}

/// How plans are carried out.
#[derive(Clone, Debug)]
pub struct Orders {
    /// A folder per seed is made here and goes when the seed passes.
    pub output: PathBuf,
    pub keep: bool,
    /// Every plan twice.
    pub meta: bool,
    pub width: usize,
    pub limit: Option<Duration>,
}

/// Carries out plans and tells of each.
///
/// # Errors
/// When the harness cannot do its work.
pub fn simulate(plans: &[Plan], orders: &Orders) -> anyhow::Result<Totals> {
    let times = if orders.meta { 2 } else { 1 };
    let mut jobs = Vec::new();
    for plan in plans {
        for time in 0..times {
            let again = if time == 0 { "" } else { "-again" };
            let name = format!("seed-{}-voters-{}{again}", plan.seed, plan.voters);
            let folder = orders.output.join(name);
            // Left by an earlier run of the same seed.
            if folder.join("plan.json").exists() {
                std::fs::remove_dir_all(&folder)?;
            }
            jobs.push(Job { program: None, plan: plan.clone(), folder, environment: Vec::new() });
        }
    }
    let began = Instant::now();
    let mut totals = Totals::default();
    let mut traces: BTreeMap<u64, String> = BTreeMap::new();
    farm::run(&jobs, orders.width, |place, mut summary| {
        let Some(job) = jobs.get(place) else { return false };
        if orders.meta {
            compare_traces(&mut traces, &mut summary);
        }
        tell(&summary, &job.folder);
        if summary.verdict == "pass" && !orders.keep {
            // What stays behind is no reason to end the others.
            let _ = std::fs::remove_dir_all(&job.folder);
        }
        totals.add(&summary);
        orders.limit.is_none_or(|limit| began.elapsed() < limit)
    })?;
    totals.real = began.elapsed();
    Ok(totals)
}

/// The same plan must leave the same trace, or no seed is worth anything.
fn compare_traces(traces: &mut BTreeMap<u64, String>, summary: &mut Summary) {
    let first = traces.entry(summary.seed).or_insert_with(|| summary.trace.clone());
    if *first != summary.trace {
        summary.verdict = "fail".to_owned();
        summary
            .findings
            .insert(0, format!("not deterministic: two runs left the traces {first} and {}", summary.trace));
    }
}

fn tell(summary: &Summary, folder: &Path) {
    let Summary { seed, voters, operations, unknown, failed, leader_changes, trace, .. } = summary;
    let kinds: Vec<String> = summary.faults.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let kinds = if kinds.is_empty() { "no faults".to_owned() } else { kinds.join(", ") };
    say(&format!(
        "seed {seed} with {voters} voters: {operations} ok, {unknown} unknown, {failed} failed; {kinds}; {leader_changes} \
         leaders; trace {trace}; {:.0} s in {:.1} s: {}",
        seconds(summary.virtual_ms),
        seconds(summary.real_ms),
        summary.verdict.to_uppercase()
    ));
    if summary.verdict == "pass" {
        return;
    }
    for finding in summary.findings.iter().take(FINDINGS_SHOWN) {
        say(&format!("  {finding}"));
    }
    say(&format!("  repeat it with: {}", replay(&folder.join("plan.json"))));
}

/// Returns the command that repeats a plan.
pub(crate) fn replay(plan: &Path) -> String {
    format!("keelson chaos sim --plan {}", plan.display())
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

/// What all seeds came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub passed: usize,
    pub failed: usize,
    pub invalid: usize,
    pub operations: usize,
    pub faults: u64,
    pub virtual_time: Duration,
    pub real: Duration,
}

impl Totals {
    fn add(&mut self, summary: &Summary) {
        match summary.verdict.as_str() {
            "pass" => self.passed += 1,
            "invalid" => self.invalid += 1,
            _ => self.failed += 1,
        }
        self.operations += summary.operations;
        self.faults += summary.faults.values().sum::<u64>();
        self.virtual_time += Duration::from_millis(summary.virtual_ms);
    }

    /// Returns one line for a reader.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { passed, failed, invalid, operations, faults, virtual_time, real } = self;
        let ratio = virtual_time.as_secs_f64() / real.as_secs_f64().max(0.001);
        format!(
            "{} runs: {passed} pass, {failed} fail, {invalid} invalid; {operations} operations, {faults} faults, {:.2} virtual \
             hours in {:.0} s ({ratio:.0} times real time)",
            passed + failed + invalid,
            virtual_time.as_secs_f64() / 3600.0,
            real.as_secs_f64(),
        )
    }

    /// Returns the exit code: a broken promise outweighs what proves nothing.
    #[must_use]
    pub fn code(&self) -> u8 {
        match (self.failed, self.invalid) {
            (0, 0) => PASS,
            (0, _) => INVALID,
            _ => FAIL,
        }
    }
}

fn code(summary: &Summary) -> u8 {
    match summary.verdict.as_str() {
        "pass" => PASS,
        "invalid" => INVALID,
        _ => FAIL,
    }
}

fn simulable(plans: Vec<Plan>, control_plane: Option<MakeControlPlane>) -> anyhow::Result<Vec<Plan>> {
    let is_of_servers = plans.iter().any(Plan::is_of_servers);
    anyhow::ensure!(control_plane.is_some() || !is_of_servers, run::STORES_ALONE);
    Ok(plans)
}

fn plans(args: &SimArgs) -> anyhow::Result<Vec<Plan>> {
    if let Some(path) = &args.plan {
        return Ok(vec![plan::read(path)?]);
    }
    anyhow::ensure!(args.seeds > 0, "--seeds must be at least 1");
    let first = args.seed.unwrap_or_else(|| now().unwrap_or(0));
    drawn(first, args.seeds, &args.swarm)
}

fn now() -> Option<u64> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().map(|since| since.as_secs())
}

/// Draws the plans of `count` seeds from `first` on.
///
/// # Errors
/// One line that says which word of the command line is wrong.
pub fn drawn(first: u64, count: u64, swarm: &SwarmArgs) -> anyhow::Result<Vec<Plan>> {
    for voters in &swarm.voters {
        anyhow::ensure!([3, 5, 7].contains(voters), "--voters {voters}: choose from 3, 5 and 7");
    }
    let kinds = kinds(&swarm.nemesis)?;
    let workloads = workloads::chosen(&swarm.workload)?;
    let of_servers = workloads.iter().filter(|workload| workloads::is_of_servers(workload)).count();
    anyhow::ensure!(
        of_servers == 0 || of_servers == workloads.len(),
        "--workload {}: either whole servers or stores alone",
        swarm.workload.join(",")
    );
    for kind in &swarm.nemesis {
        let needs = Kind::from_str(kind, false).ok().and_then(Kind::is_of_servers);
        anyhow::ensure!(
            needs.is_none_or(|needs| needs == (of_servers > 0)),
            "--nemesis {kind} does not go with --workload {}",
            swarm.workload.join(",")
        );
    }
    let mut plans = Vec::new();
    for (seed, voters) in (first..first.saturating_add(count)).zip(swarm.voters.iter().cycle()) {
        let wanted = Wanted { voters: *voters, workloads: workloads.clone(), kinds: kinds.clone() };
        plans.push(swarm::plan(seed, &wanted));
    }
    Ok(plans)
}

fn kinds(names: &[String]) -> anyhow::Result<Vec<Kind>> {
    let mut kinds = Vec::new();
    for name in names {
        match name.as_str() {
            "all" => kinds.extend(Kind::value_variants()),
            "none" => {}
            name => kinds.push(Kind::from_str(name, false).map_err(|_| {
                let known: Vec<&str> = Kind::value_variants().iter().map(|kind| kind.name()).collect();
                anyhow::anyhow!("--nemesis {name}: choose from all, none, {}", known.join(", "))
            })?),
        }
    }
    kinds.sort_unstable();
    kinds.dedup();
    Ok(kinds)
}

/// Returns how many runs go on at a time.
#[must_use]
pub fn width(jobs: Option<usize>) -> usize {
    jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn swarm() -> SwarmArgs {
        SwarmArgs { voters: vec![3, 5], workload: words(&["all"]), nemesis: words(&["all"]) }
    }

    #[test]
    fn seeds_take_the_numbers_of_voters_in_turns() {
        let plans = drawn(10, 3, &swarm()).unwrap();
        let drawn: Vec<(u64, usize)> = plans.iter().map(|plan| (plan.seed, plan.voters)).collect();
        assert_eq!(drawn, [(10, 3), (11, 5), (12, 3)]);
    }

    #[test]
    fn wrong_words_are_named() {
        let error = |swarm: SwarmArgs| drawn(1, 1, &swarm).unwrap_err().to_string();
        assert!(error(SwarmArgs { voters: vec![4], ..swarm() }).starts_with("--voters 4"));
        assert!(
            error(SwarmArgs { nemesis: words(&["earthquake"]), ..swarm() })
                .contains("choose from all, none, kill")
        );
        assert!(error(SwarmArgs { workload: words(&["dance"]), ..swarm() }).contains("dance"));
        let mixed = SwarmArgs { workload: words(&["register", "k-occ"]), ..swarm() };
        assert!(error(mixed).contains("either whole servers or stores alone"));
        let of_servers = SwarmArgs { workload: words(&["k8s"]), ..swarm() };
        assert_eq!(drawn(1, 6, &of_servers).unwrap().iter().filter(|plan| plan.is_of_servers()).count(), 6);
        let replaced = SwarmArgs { nemesis: words(&["replace"]), ..of_servers };
        assert!(error(replaced).contains("--nemesis replace does not go"));
        assert!(error(SwarmArgs { nemesis: words(&["kill-agent"]), ..swarm() }).contains("does not go"));
        assert!(kinds(&words(&["none"])).unwrap().is_empty());
        assert_eq!(kinds(&words(&["kill", "kill"])).unwrap(), [Kind::Kill]);
    }

    #[test]
    fn a_failure_outweighs_what_proves_nothing() {
        assert_eq!(Totals { passed: 3, ..Totals::default() }.code(), PASS);
        assert_eq!(Totals { passed: 3, invalid: 1, ..Totals::default() }.code(), INVALID);
        assert_eq!(Totals { failed: 1, invalid: 1, ..Totals::default() }.code(), FAIL);
    }

    #[test]
    fn a_trace_that_differs_fails() {
        let mut traces = BTreeMap::new();
        let run = |trace: &str| Summary {
            verdict: "pass".to_owned(),
            trace: trace.to_owned(),
            ..Summary::default()
        };
        let (mut first, mut same, mut other) = (run("a"), run("a"), run("b"));
        compare_traces(&mut traces, &mut first);
        compare_traces(&mut traces, &mut same);
        compare_traces(&mut traces, &mut other);
        assert_eq!([first, same, other].map(|run| run.verdict), ["pass", "pass", "fail"]);
    }
}
