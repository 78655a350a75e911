//! `keelson chaos sim` and `shrink`: what can be asked of the simulator. It is handed in by the program: it contains the store, on which
//! this crate does not depend.

use std::path::PathBuf;
use std::time::Duration;

use super::{PlantsArgs, duration};

/// Which seeds to simulate.
#[derive(Clone, Debug, clap::Args)]
pub struct SimArgs {
    /// First seed [default: the time]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Number of seeds
    #[arg(long, default_value_t = 1)]
    pub seeds: u64,
    #[command(flatten)]
    pub swarm: SwarmArgs,
    /// Repeats a recorded plan
    #[arg(long, conflicts_with_all = ["seed", "seeds", "voters", "workload", "nemesis"])]
    pub plan: Option<PathBuf>,
    /// Simulates each seed twice: both must leave the same trace
    #[arg(long)]
    pub meta: bool,
    /// Folder for the seeds that do not pass [default: chaos-runs/sim]
    #[arg(long)]
    pub output: Option<PathBuf>,
    /// Keeps the folders of seeds that pass, too
    #[arg(long)]
    pub keep: bool,
    /// Seeds at a time [default: one per core]
    #[arg(long)]
    pub jobs: Option<usize>,
    /// Begins no seed after this time
    #[arg(long, value_parser = duration)]
    pub time_limit: Option<Duration>,
    /// Simulates the plan in this process: a process per seed is what makes runs repeat
    #[arg(long, hide = true, requires = "plan")]
    pub here: bool,
}

/// From what plans are drawn.
#[derive(Clone, Debug, clap::Args)]
pub struct SwarmArgs {
    /// Numbers of voters, in turns
    #[arg(long, value_delimiter = ',', default_value = "3,5")]
    pub voters: Vec<usize>,
    /// What clients do: workloads of stores (`all`), or of whole servers (`k-…`; `k8s` for all of them)
    #[arg(long, value_delimiter = ',', default_value = "all")]
    pub workload: Vec<String>,
    /// Kinds of faults; `all` those that go with the workloads, or `none`
    #[arg(long, value_delimiter = ',', default_value = "all")]
    pub nemesis: Vec<String>,
}

/// Which failure to make smaller.
#[derive(Clone, Debug, clap::Args)]
pub struct ShrinkArgs {
    /// Folder of a simulated seed, with its plan.json
    #[arg(required_unless_present = "seed", conflicts_with = "seed")]
    pub folder: Option<PathBuf>,
    /// Seed of the plan
    #[arg(long)]
    pub seed: Option<u64>,
    #[command(flatten)]
    pub swarm: SwarmArgs,
    /// Folder for the smallest plan [default: chaos-runs/shrunk-SEED]
    #[arg(long)]
    pub output: Option<PathBuf>,
    /// Plans at a time [default: one per core]
    #[arg(long)]
    pub jobs: Option<usize>,
}

/// Answers the commands; each returns the exit code.
#[derive(Clone, Copy, Debug)]
pub struct Simulator {
    pub sim: fn(&SimArgs) -> anyhow::Result<u8>,
    pub shrink: fn(&ShrinkArgs) -> anyhow::Result<u8>,
    /// Of `keelson-plant` only.
    pub plants: Option<fn(&PlantsArgs) -> anyhow::Result<u8>>,
}
