//! `cargo xtask bench`: measures Keelson beside its peers in one run and writes `docs/benchmarks.md`. A run of some parts only writes its
//! report into the build folder.
//!
//! The machine must be quiet: nothing else may run on it. The figures are honest only for the binary that is built here.

use std::process::Command;

use anyhow::Result;

use crate::process::{self, root};
use crate::{peers, setup, up};

#[derive(clap::Args)]
pub struct Args {
    /// Parts: store, cluster, or of the store load, large, delay, crowd, failover, growth [default: all].
    parts: Vec<String>,
    /// Seconds that each measurement of the store runs.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Rounds; the sides take turns (ours, peer, peer, ours, …) and medians are reported.
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    /// Starts of a whole cluster.
    #[arg(long, default_value_t = 3)]
    starts: u32,
}

pub fn run(args: &Args) -> Result<()> {
    setup::prepare()?;
    peers::sync_counter();
    let binary = up::release_binary()?;
    let mut command = Command::new(binary);
    let report = if args.parts.is_empty() {
        root().join("docs/benchmarks.md")
    } else {
        process::target().join("benchmarks.md")
    };
    command.current_dir(root()).args(["bench", "run", "--report"]).arg(report);
    if !args.parts.is_empty() {
        command.args(["--only", &args.parts.join(",")]);
    }
    for (flag, number) in [("--seconds", args.seconds), ("--rounds", args.rounds), ("--starts", args.starts)]
    {
        command.args([flag, &number.to_string()]);
    }
    for peer in peers::all()? {
        command.arg("--peer").arg(peer);
    }
    process::run(&mut command)
}
