//! `keelson bench`: the store beside its peers under the same load, and what a whole cluster needs.
//!
//! Every round gives each contestant three fresh members on loopback with fsync on, the same clients and the same keys.
//! Rounds are interleaved and every second one runs backwards (ours, peer, peer, ours), so that a machine that gets slower
//! or faster does not take sides. An empty service under the same load shows what clients and network cost by themselves.
//! The report shows medians with their spread, and what noise cannot blur: processor time, syncs and bytes per operation.

mod contestant;
mod empty_service;
mod generator;
mod machine;
mod places;
mod process;
mod report;
mod sample;
mod store;
mod syncs;
mod whole_cluster;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use self::contestant::Contestant;
use self::machine::Machine;
use self::report::Report;
use crate::run::say;

/// Measures the store beside etcd, and a whole cluster
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Measures and writes a report
    Run(RunArgs),
    /// Serves etcd's API and does nothing: what clients and network cost by themselves
    #[command(hide = true)]
    EmptyService(empty_service::Args),
}

#[derive(Clone, Debug, clap::Args)]
struct RunArgs {
    /// Length of each measurement of the store, in seconds
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Rounds of the store; every round measures every side once
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    /// Clients at a time, each waiting for its answer
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 256])]
    clients: Vec<u32>,
    /// Starts of a whole cluster
    #[arg(long, default_value_t = 3)]
    starts: u32,
    /// Our side [default: this binary]
    #[arg(long)]
    binary: Option<PathBuf>,
    /// An etcd to measure beside us; may be given several times
    #[arg(long)]
    peer: Vec<PathBuf>,
    /// What is applied to a whole cluster; its first pod ends the measurement of a start
    #[arg(long, default_value = "examples/web.yaml")]
    manifest: PathBuf,
    /// Where data is kept while it runs; a real disk, or the figures mean little
    #[arg(long, default_value = ".")]
    data: PathBuf,
    /// Measures one part only
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Markdown file to write
    #[arg(long)]
    report: PathBuf,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Store,
    Cluster,
}

/// Runs the command.
///
/// # Errors
/// When something cannot be started or measured.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match args.command {
        Command::Run(args) => {
            check(&args)?;
            runtime.block_on(async {
                tokio::select! {
                    measured = measure(&args) => measured,
                    stopped = stop_signal() => Err(stopped.err().unwrap_or_else(|| anyhow::anyhow!("interrupted"))),
                }
            })?;
        }
        Command::EmptyService(args) => runtime.block_on(empty_service::run(&args))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits for Ctrl-C or SIGTERM, so that whatever was started is ended in order.
async fn stop_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn check(args: &RunArgs) -> anyhow::Result<()> {
    anyhow::ensure!(args.seconds > 0 && args.rounds > 0, "--seconds and --rounds must be at least 1");
    anyhow::ensure!(args.starts > 0, "--starts must be at least 1");
    anyhow::ensure!(
        args.clients.iter().all(|clients| (1..=1024).contains(clients)),
        "--clients must be between 1 and 1024"
    );
    Ok(())
}

async fn measure(args: &RunArgs) -> anyhow::Result<()> {
    let ours = match &args.binary {
        Some(binary) => binary.clone(),
        None => std::env::current_exe()?,
    };
    let ours = ours.canonicalize().with_context(|| ours.display().to_string())?;
    let machine = Machine::look(&args.data).await?;
    say(&machine.before());
    let mut report = Report::new(machine);
    if args.only != Some(Part::Cluster) {
        let contestants = contestant::all(&ours, &args.peer)?;
        report.add_store(store_part(args, contestants).await?);
    }
    if args.only != Some(Part::Store) {
        report.add_cluster(whole_cluster::measure(&ours, &args.manifest, &args.data, args.starts).await?);
    }
    let text = report.markdown()?;
    std::fs::write(&args.report, &text).with_context(|| args.report.display().to_string())?;
    say(text.trim_end());
    Ok(())
}

async fn store_part(args: &RunArgs, contestants: Vec<Contestant>) -> anyhow::Result<report::StorePart> {
    let plan = store::Plan {
        length: Duration::from_secs(args.seconds),
        rounds: args.rounds,
        clients: args.clients.clone(),
        data: args.data.clone(),
    };
    let rounds = store::measure(&plan, &contestants).await?;
    Ok(report::StorePart { plan, contestants, rounds })
}

/// A folder that goes when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn create(parent: &Path) -> anyhow::Result<Self> {
        let path = parent.canonicalize()?.join(format!("keelson-bench-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "data of a measurement stays behind");
        }
    }
}
