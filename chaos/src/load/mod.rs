//! `keelson bench store`: the store beside etcd, the same load on both.
//!
//! Both get three fresh members on loopback with fsync on, the same clients and the same keys. Runs are interleaved (ours,
//! peer, peer, ours), so that a machine that gets slower or faster does not take sides. The report shows medians with
//! their spread, and what noise cannot blur: server CPU time and bytes written per operation.

mod generator;
mod process;
mod report;
mod sample;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use self::report::{Report, Side};
use self::sample::Sample;
use crate::cluster::{Cluster, Place, Program};
use crate::run::say;

/// Where the search for free ports begins and ends.
const FIRST_PORT: u16 = 12_000;
const LAST_PORT: u16 = 32_000;
/// Members on each side.
const MEMBERS: usize = 3;
/// Load before the first measurement, which opens connections and warms caches.
const WARM_UP: Duration = Duration::from_secs(1);

/// Measures the store beside etcd
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Puts and linearizable gets on three members, ours and etcd's
    Store(StoreArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct StoreArgs {
    /// Length of each measurement
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds; every round measures both sides once
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    /// Clients at a time, each waiting for its answer
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 256])]
    clients: Vec<u32>,
    /// Our side [default: this binary]
    #[arg(long)]
    binary: Option<PathBuf>,
    /// The peer
    #[arg(long, default_value = "/usr/bin/etcd")]
    peer: PathBuf,
    /// Where members keep their data while it runs; a real disk, or the figures mean little
    #[arg(long, default_value = ".")]
    data: PathBuf,
    /// Markdown file to write
    #[arg(long)]
    report: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// When members cannot be started or measured.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Store(args) = args.command;
    anyhow::ensure!(args.seconds > 0 && args.rounds > 0, "--seconds and --rounds must be at least 1");
    anyhow::ensure!(
        args.clients.iter().all(|clients| (1..=1024).contains(clients)),
        "--clients must be between 1 and 1024"
    );
    let ours = match &args.binary {
        Some(binary) => binary.clone(),
        None => std::env::current_exe()?,
    };
    let programs = [(Side::Ours, ours), (Side::Peer, args.peer.clone())].map(|(side, binary)| {
        let binary = binary.canonicalize().with_context(|| binary.display().to_string())?;
        anyhow::Ok((side, Program::new(&binary)))
    });
    let programs: Vec<(Side, Program)> = programs.into_iter().collect::<Result<_, _>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let report = runtime.block_on(async {
        tokio::select! {
            report = measure_all(&args, &programs) => report,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        }
    })?;
    let text = report.markdown(&args.clients, args.seconds, args.rounds);
    std::fs::write(&args.report, &text).with_context(|| args.report.display().to_string())?;
    say(text.trim_end());
    Ok(ExitCode::SUCCESS)
}

async fn measure_all(args: &StoreArgs, programs: &[(Side, Program)]) -> anyhow::Result<Report> {
    let mut report = Report::new(programs, &args.data)?;
    for round in 0..args.rounds {
        // ABBA: whoever went first goes second in the next round.
        let order: Vec<_> =
            if round % 2 == 0 { programs.iter().collect() } else { programs.iter().rev().collect() };
        for (side, program) in order {
            let folder = Folder::create(&args.data)?;
            let samples = measure(args, program, &folder.0).await;
            let samples = samples.with_context(|| program.binary.display().to_string())?;
            for sample in samples {
                say(&format!("round {} {side:?} {}", round + 1, sample.line()));
                report.add(*side, sample);
            }
        }
    }
    Ok(report)
}

async fn measure(args: &StoreArgs, program: &Program, folder: &Path) -> anyhow::Result<Vec<Sample>> {
    let mut cluster = Cluster::start(program, &places()?, "keelson-bench", folder).await?;
    let length = Duration::from_secs(args.seconds);
    let samples = sample::all(&cluster, &args.clients, WARM_UP, length).await;
    cluster.stop().await;
    samples
}

/// Finds free ports on loopback, below those that the kernel gives to outgoing connections: one of those could be taken by
/// another member's connection before its owner listens.
fn places() -> anyhow::Result<Vec<Place>> {
    let first = FIRST_PORT + u16::try_from(std::process::id() % 1000)? * 8;
    // All are held until the last one is found, so that none is handed out twice.
    let held: Vec<TcpListener> = (first..LAST_PORT)
        .filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .take(2 * MEMBERS)
        .collect();
    let urls: Vec<String> = held
        .iter()
        .map(|listener| Ok(format!("http://{}", listener.local_addr()?)))
        .collect::<std::io::Result<_>>()?;
    let place = |(number, urls): (usize, &[String])| {
        let [client_url, peer_url] = urls else { return None };
        let (client_url, peer_url) = (client_url.clone(), peer_url.clone());
        Some(Place { name: format!("n{number}"), client_url, peer_url, namespace: None })
    };
    let places: Vec<Place> = (1..).zip(urls.chunks(2)).filter_map(place).collect();
    anyhow::ensure!(places.len() == MEMBERS, "no free ports between {first} and {LAST_PORT}");
    Ok(places)
}

/// A data folder that goes when it is dropped.
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
            tracing::warn!(%error, path = %self.0.display(), "the members' data stays behind");
        }
    }
}
