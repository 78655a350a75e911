//! `keelson bench`: the store beside its peers under the same load, and what a whole cluster needs.
//!
//! Every round gives each contestant three fresh members on loopback with fsync on, the same clients and the same keys.
//! Rounds are interleaved and every second one runs backwards (ours, peer, peer, ours), so that a machine that gets slower
//! or faster does not take sides. An empty service under the same load shows what clients and network cost by themselves.
//! The report shows medians with their spread, and what noise cannot blur: processor time, syncs and bytes per operation.

mod contestant;
mod empty_service;
mod places;

mod connection;
mod generator;
mod pace;

mod crowd;
mod delay;
mod failover;
mod growth;
mod in_turn;
mod large;
mod sample;
mod store;
mod whole_cluster;

mod machine;
mod process;
mod syncs;

mod figure;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

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
    /// Measures these parts only
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Markdown file to write
    #[arg(long)]
    report: PathBuf,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Puts, gets and updates by many clients
    Load,
    /// A million keys with five versions each
    Large,
    /// How long events take to many watchers
    Delay,
    /// A million watches; only when it is named
    Crowd,
    /// How long writes stop without their leader
    Failover,
    /// Cost of an operation with up to ten million keys
    Growth,
    /// All of these
    Store,
    /// A whole cluster
    Cluster,
}

impl RunArgs {
    fn measures(&self, part: Part) -> bool {
        // A million watches have not been reached yet: measured where it is asked for by name.
        if part == Part::Crowd {
            return self.only.contains(&part);
        }
        let is_of_store = part != Part::Cluster;
        self.only.is_empty() || self.only.contains(&part) || (is_of_store && self.only.contains(&Part::Store))
    }
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
    let mut report = Report::new(machine, contestant::all(&ours, &args.peer)?);
    if args.measures(Part::Load) {
        let plan = store::Plan {
            length: Duration::from_secs(args.seconds),
            rounds: args.rounds,
            data: args.data.clone(),
        };
        let rounds = store::measure(&plan, report.contestants()).await?;
        report.add_store(report::StorePart { plan, rounds });
        write(&report, &args.report)?;
    }
    if args.measures(Part::Large) {
        let readings = large::measure(&args.data, report.contestants()).await?;
        report.add_table(report::Table { title: "A large store", text: large::TEXT, readings });
        write(&report, &args.report)?;
    }
    if args.measures(Part::Delay) {
        let readings = delay::measure(&args.data, report.contestants()).await?;
        report.add_table(report::Table { title: "Watchers", text: delay::TEXT, readings });
        write(&report, &args.report)?;
    }
    if args.measures(Part::Crowd) {
        let readings = crowd::measure(&args.data, report.contestants()).await?;
        report.add_table(report::Table { title: "A million watches", text: crowd::TEXT, readings });
        write(&report, &args.report)?;
    }
    if args.measures(Part::Failover) {
        let readings = failover::measure(&args.data, report.contestants()).await?;
        report.add_table(report::Table { title: "A lost leader", text: failover::TEXT, readings });
        write(&report, &args.report)?;
    }
    if args.measures(Part::Growth) {
        let ours = report.contestants().first().context("nobody is measured")?;
        report.add_growth(growth::measure(&args.data, ours).await?);
        write(&report, &args.report)?;
    }
    if args.measures(Part::Cluster) {
        report.add_cluster(whole_cluster::measure(&ours, &args.manifest, &args.data, args.starts).await?);
    }
    say(write(&report, &args.report)?.trim_end());
    Ok(())
}

/// Writes what has been measured so far, and its plot; returns the text.
fn write(report: &Report, path: &Path) -> anyhow::Result<String> {
    let text = report.markdown()?;
    std::fs::write(path, &text).with_context(|| path.display().to_string())?;
    if let Some(plot) = report.plot() {
        let path = path.with_file_name(report::PLOT);
        std::fs::write(&path, plot).with_context(|| path.display().to_string())?;
    }
    Ok(text)
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
