//! `keelson-plant`: store and chaos with bugs sown in, so that the checkers can show that they fail. Built in a copy of the sources
//! (`cargo xtask mutants --plants`); from the sources themselves it holds none.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Keelson's store and chaos, with planted bugs: KEELSON_PLANT names the one that is switched on.
#[derive(Parser)]
#[command(name = "keelson-plant", version, about)]
enum Command {
    /// Runs the store, as a member of a chaos run
    Store(Box<store::cli::Args>),
    /// Saves and restores a store's state, as the harness does with those of a run
    #[command(subcommand)]
    Snapshot(store::backup::cli::Command),
    /// Attacks a cluster and checks what it promised
    Chaos(Box<chaos::cli::Args>),
}

fn main() -> anyhow::Result<ExitCode> {
    match Command::parse() {
        Command::Store(args) => store(*args),
        Command::Snapshot(command) => snapshot(command),
        Command::Chaos(args) => chaos::cli::run(*args, simulation::SIMULATOR),
    }
}

fn snapshot(command: store::backup::cli::Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(store::backup::cli::run(command)).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(ExitCode::SUCCESS)
}

fn store(args: store::cli::Args) -> anyhow::Result<ExitCode> {
    let args = args.resolve().map_err(|error| anyhow::anyhow!("{error}"))?;
    let filter = EnvFilter::new(format!("{},openraft=warn", args.log_level.as_str()));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let stop = CancellationToken::new();
        let mut running = std::pin::pin!(store::cli::run(args, stop.clone()));
        tokio::select! {
            ended = &mut running => return ended.map_err(|error| anyhow::anyhow!("{error}")),
            _ = terminate.recv() => stop.cancel(),
        }
        running.await.map_err(|error| anyhow::anyhow!("{error}"))
    })?;
    Ok(ExitCode::SUCCESS)
}
