//! `cargo xtask`: sets up a machine, starts a cluster, runs every check, measures. Depends on no workspace crate.

mod bench;
mod leftovers;
mod mutants;
mod peers;
mod process;
mod setup;
mod test;
mod tidy;
mod up;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, run and test Keelson")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Installs what this machine lacks: system packages, the RocksDB archive, example images.
    Setup,
    /// Sets up, builds, and starts a cluster in the foreground on ./.keelson.
    Up(up::Args),
    /// Sets up and runs every check and test.
    Test(test::Args),
    /// Breaks the store on purpose, one named bug at a time: a test must find each.
    Mutants(mutants::Args),
    /// Measures Keelson beside etcd and writes docs/benchmarks.md.
    Bench(bench::Args),
    /// Checks crate edges, purity, file and function sizes, and module documentation.
    Tidy,
}

fn main() -> Result<()> {
    match Args::parse().command {
        Command::Setup => setup::run(),
        Command::Up(args) => up::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Mutants(args) => mutants::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Tidy => tidy::run(),
    }
}
