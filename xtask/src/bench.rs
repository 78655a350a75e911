//! `cargo xtask bench`: measures Keelson beside its peers in one run and writes `docs/benchmarks.md`.

use std::process::Command;

use anyhow::Result;

use crate::process::{self, root};
use crate::{setup, up};

#[derive(clap::Args)]
pub struct Args {
    /// Seconds that each measurement runs.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Rounds; the sides take turns (ours, peer, peer, ours, …) and medians are reported.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

pub fn run(args: &Args) -> Result<()> {
    setup::prepare()?;
    let binary = up::release_binary()?;
    let report = root().join("docs/benchmarks.md");
    let mut command = Command::new(binary);
    command.args([
        "bench",
        "store",
        "--seconds",
        &args.seconds.to_string(),
        "--rounds",
        &args.rounds.to_string(),
    ]);
    process::run(command.arg("--report").arg(report))
}
