//! Tries a plant, seed by seed, until it is found.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::expected::Shown;
use super::real::Order;
use super::{Plant, SWITCH, Simulated, Tier, real};
use crate::farm::{self, Job};
use crate::machine::lock;
use crate::plan::Plan;
use crate::run::Summary;

/// What came of a plant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Caught {
        by: Vec<String>,
        seed: u64,
    },
    /// What its seeds showed instead.
    Survived(Vec<String>),
    /// The time was over.
    LeftOut,
    /// This machine cannot run it.
    Skipped(&'static str),
}

/// What was done for a plant.
#[derive(Clone, Debug)]
pub(super) struct Tried {
    pub(super) fate: Fate,
    /// With the plant; those without are not counted.
    pub(super) operations: usize,
    pub(super) runs: usize,
    pub(super) lasted: Duration,
}

/// Runs of the same plan without a plant are shared: plants often need the same faults.
type Sound = Arc<OnceLock<Result<Summary, String>>>;

/// Everything that trials share.
pub(super) struct Trials {
    /// A folder per run is made here, and goes unless the plant survives.
    pub(super) output: PathBuf,
    pub(super) deadline: Instant,
    /// A whole program with the same bugs, for members that are whole servers.
    pub(super) keelson: Option<PathBuf>,
    sound: Mutex<BTreeMap<String, Sound>>,
}

impl Trials {
    pub(super) fn new(output: PathBuf, deadline: Instant, keelson: Option<PathBuf>) -> Self {
        Self { output, deadline, keelson, sound: Mutex::default() }
    }

    /// Says why this machine cannot run a plant, if so.
    fn impossible(&self, plant: &Plant) -> Option<&'static str> {
        match &plant.tier {
            Tier::Simulated(_) => None,
            Tier::Kubernetes(_) | Tier::SimulatedServers(_) if self.keelson.is_none() => {
                Some("it needs whole servers: --keelson")
            }
            Tier::SimulatedServers(_) => None,
            Tier::Real(_) | Tier::Kubernetes(_) if !real::is_possible() => Some("it needs root"),
            Tier::Real(real) | Tier::Kubernetes(real) => real::lacks_containers(real.workload)
                .then_some("it needs containers: `chaos doctor` says what is missing"),
        }
    }

    /// Tries a plant on its seeds.
    pub(super) fn plant(&self, plant: &Plant) -> Tried {
        let began = Instant::now();
        let mut tried = Tried { fate: Fate::LeftOut, operations: 0, runs: 0, lasted: Duration::ZERO };
        if let Some(why) = self.impossible(plant) {
            tried.fate = Fate::Skipped(why);
            return tried;
        }
        let mut instead = Vec::new();
        for seed in plant.tier.seeds() {
            if Instant::now() >= self.deadline {
                return tried;
            }
            // First without it: a plan that fails anyway says nothing about the plant.
            if let Some(reason) = self.fails_anyway(plant, seed) {
                instead.push(format!("seed {seed} without the plant: {reason}"));
                continue;
            }
            tried.runs += 1;
            match self.shown(plant, seed, &mut tried.operations) {
                Shown::Found(by) => {
                    tried.fate = Fate::Caught { by, seed };
                    tried.lasted = began.elapsed();
                    self.remove_folders(plant);
                    return tried;
                }
                Shown::Nothing(what) => instead.push(format!("seed {seed}: {what}")),
            }
        }
        tried.fate = Fate::Survived(instead);
        tried.lasted = began.elapsed();
        tried
    }

    /// Says why the program does not pass this run without the plant.
    fn fails_anyway(&self, plant: &Plant, seed: u64) -> Option<String> {
        let key = match &plant.tier {
            Tier::Simulated(simulated) | Tier::SimulatedServers(simulated) => {
                format!("{:?}", simulated.plan(seed))
            }
            Tier::Real(real) | Tier::Kubernetes(real) => format!("{real:?} {seed}"),
        };
        let sound = Arc::clone(lock(&self.sound).entry(key).or_default());
        let summary = sound.get_or_init(|| {
            self.carry_out(plant, seed, None, self.folder(plant, seed, "sound"))
                .map_err(|error| format!("{error:#}"))
        });
        match summary {
            Ok(summary) if summary.verdict == "pass" && plant.expected.needs_two_runs() => {
                match self.carry_out(plant, seed, None, self.folder(plant, seed, "sound")) {
                    Ok(again) if again.trace == summary.trace => None,
                    Ok(_) => Some("two runs left two traces".to_owned()),
                    Err(error) => Some(format!("the harness failed: {error:#}")),
                }
            }
            Ok(summary) if summary.verdict == "pass" => None,
            Ok(summary) => Some(format!("{}: {}", summary.verdict, summary.findings.join("; "))),
            Err(error) => Some(format!("the harness failed: {error}")),
        }
    }

    /// Carries out what a seed of a plant needs, and judges it.
    fn shown(&self, plant: &Plant, seed: u64, operations: &mut usize) -> Shown {
        let run = |which| self.run(plant, seed, which);
        let twice = plant.expected.needs_two_runs();
        let runs = run("planted").and_then(|first| {
            let again = if twice { Some(run("again")?) } else { None };
            Ok((first, again))
        });
        match runs {
            Ok((run, again)) => {
                *operations += run.operations;
                plant.expected.judge(&run, again.as_ref())
            }
            Err(error) => Shown::Nothing(format!("the harness failed: {error:#}")),
        }
    }

    fn run(&self, plant: &Plant, seed: u64, which: &str) -> anyhow::Result<Summary> {
        self.carry_out(plant, seed, Some(plant.name), self.folder(plant, seed, which))
    }

    fn carry_out(
        &self,
        plant: &Plant,
        seed: u64,
        switched: Option<&str>,
        folder: PathBuf,
    ) -> anyhow::Result<Summary> {
        let (recipe, program) = match &plant.tier {
            Tier::Simulated(simulated) => return simulate(None, simulated.plan(seed), switched, folder),
            Tier::SimulatedServers(simulated) => {
                let program = self.keelson.clone().context("no program of whole servers")?;
                return simulate(Some(program), simulated.plan(seed), switched, folder);
            }
            Tier::Real(recipe) => (recipe, std::env::current_exe()?),
            Tier::Kubernetes(recipe) => {
                (recipe, self.keelson.clone().context("no program of whole servers")?)
            }
        };
        real::run(&Order { program: &program, recipe, seed, plant: switched, folder: &folder })
    }

    fn folder(&self, plant: &Plant, seed: u64, which: &str) -> PathBuf {
        self.output.join(format!("{}-{}-{seed}-{which}", plant.name, plant.tier.name()))
    }

    fn remove_folders(&self, plant: &Plant) {
        for seed in plant.tier.seeds() {
            for which in ["sound", "planted", "again"] {
                // Most of them are not there, and what stays behind spoils nothing.
                let _ = std::fs::remove_dir_all(self.folder(plant, seed, which));
            }
        }
    }
}

/// Simulates a plan in another process of this program, or in one of `program`.
fn simulate(
    program: Option<PathBuf>,
    plan: Plan,
    switched: Option<&str>,
    folder: PathBuf,
) -> anyhow::Result<Summary> {
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let environment = switched.map(|name| (SWITCH, name.to_owned())).into_iter().collect();
    farm::carry_out(&Job { program, plan, folder, environment })
}

/// Says how to repeat one run of a plant by hand.
pub(super) fn repeat(plant: &Plant, output: &std::path::Path) -> String {
    let name = plant.name;
    let simulation = |Simulated { seed, .. }: &Simulated| {
        let plan = output.join(format!("{name}-{}-{seed}-planted/plan.json", plant.tier.name()));
        format!("chaos sim --plan {}", plan.display())
    };
    let (program, words) = match &plant.tier {
        Tier::Simulated(simulated) => ("keelson-plant", simulation(simulated)),
        Tier::SimulatedServers(simulated) => ("keelson", simulation(simulated)),
        Tier::Real(recipe) => ("keelson-plant", real::words(recipe, recipe.seed).join(" ")),
        Tier::Kubernetes(recipe) => ("keelson", real::words(recipe, recipe.seed).join(" ")),
    };
    format!("{SWITCH}={name} {program} {words}")
}
