//! `keelson chaos`: run and ci, check, report, compare, serve, export, doctor; sim, shrink and plants by what is handed in.

mod check;
mod ci;
mod compare;
mod doctor;
mod duration;
mod export;
mod plants;
mod report;
mod series;
mod serve;
mod sim;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

pub use plants::PlantsArgs;
pub use sim::{ShrinkArgs, SimArgs, Simulator, SwarmArgs};

use crate::cluster::Program;
use crate::nemesis::turns_of;
use crate::run::{Options, say};
use crate::workload::{self, Entry, Tier};

use duration::duration;

/// Exit code for a broken promise.
const FAIL: u8 = 1;
/// Exit code for runs that prove nothing.
const INVALID: u8 = 2;
/// Exit code for wrong use (Jepsen's).
pub const USAGE: u8 = 254;
/// Exit code for a harness that could not do its work (Jepsen's).
const HARNESS: u8 = 255;

/// Runs workloads against a store while faults are injected, and judges what clients saw
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Starts members, injects faults, judges. Exit code 0 pass, 1 fail, 2 invalid
    Run(RunArgs),
    /// Runs every workload under every bundle of faults within a budget of time. Exit code of the worst run
    Ci(ci::CiArgs),
    /// Judges finished runs and other histories. Exit code 0 pass, 1 fail, 2 invalid
    Check(check::CheckArgs),
    /// Makes the pages of finished runs, and the index over them
    Report(report::ReportArgs),
    /// Sets two runs side by side, such as one of Keelson and one of etcd
    Compare(compare::CompareArgs),
    /// Shows a folder of runs in a browser
    Serve(serve::ServeArgs),
    /// Writes a history in the format of another checker
    Export(export::ExportArgs),
    /// Says which faults this machine can inject
    Doctor,
    /// Simulates the whole store with its disks and network, from seeds. Exit code 0 pass, 1 fail, 2 invalid
    Sim(SimArgs),
    /// Finds the smallest plan that still fails
    Shrink(ShrinkArgs),
    /// Shows that each planted bug is found (keelson-plant only). Exit code 1 when one survives, 2 when one was left out
    Plants(PlantsArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct RunArgs {
    /// What clients do: names that an unknown one is answered with; several run one after the other. Those that begin with k- run
    /// whole servers with agents, and clients use the API
    #[arg(long, value_delimiter = ',', default_value = "register", value_parser = workload::named)]
    workload: Vec<&'static Entry>,
    /// Faults, in turns: kinds, combinations such as kill+partition, and the bundles none, std, disk, net, clock, member, agent, all
    /// [default: kill,partition, or none with --endpoints]
    #[arg(long, value_delimiter = ',')]
    nemesis: Option<Vec<String>>,
    /// Members of an etcd v3 store that someone else runs, URL,…: without faults, on keys of the run's own
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["binary", "members", "member_env", "leave_running"])]
    endpoints: Vec<String>,
    /// Number of members, 1 to 9
    #[arg(long, default_value_t = 3)]
    members: usize,
    /// Length of the run, recovery not counted
    #[arg(long, default_value = "60s", value_parser = duration)]
    time_limit: Duration,
    /// From one fault to the next
    #[arg(long, default_value = "5s", value_parser = duration)]
    nemesis_interval: Duration,
    /// Operations per second at most, of all clients together
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Clients; every fourth uses all members, the others one each [default: 4 per member]
    #[arg(long)]
    concurrency: Option<u32>,
    /// Seed of operations and faults [default: the time]
    #[arg(long)]
    seed: Option<u64>,
    /// What members run: keelson or etcd [default: this binary]
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Environment variable of the members, NAME=VALUE
    #[arg(long, value_parser = variable)]
    member_env: Vec<(String, String)>,
    /// Folder for history and report, or for the folders of several runs [default: chaos-runs/SEED]
    #[arg(long)]
    output: Option<PathBuf>,
    /// Runs with that many seeds, one after the other, up to the first that does not pass
    #[arg(long, default_value_t = 1)]
    test_count: u64,
    /// Goes on after a run that does not pass
    #[arg(long)]
    keep_going: bool,
    /// Keeps the members after the verdict, until Ctrl-C
    #[arg(long)]
    leave_running: bool,
}

/// The command line as a whole, for runs that are asked for by other commands.
#[derive(Clone, Debug, clap::Parser)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

/// Runs the command; `simulator` answers those of the simulated tier and of plants.
///
/// # Errors
/// When the answer cannot be given; the exit codes for wrong use and for a broken harness are answers.
pub fn run(args: Args, simulator: Simulator) -> anyhow::Result<ExitCode> {
    let code = match args.command {
        Command::Run(args) => series::run(&args),
        Command::Ci(args) => ci::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Doctor => Ok(doctor::run()),
        Command::Sim(args) => (simulator.sim)(&args),
        Command::Shrink(args) => (simulator.shrink)(&args),
        Command::Plants(args) => plants::run(&args, simulator.plants),
    };
    Ok(ExitCode::from(code.unwrap_or_else(|error| {
        tell(&error);
        HARNESS
    })))
}

fn tell(error: &anyhow::Error) {
    say(&format!("keelson chaos: {error:#}"));
}

/// Returns the options of one run.
fn options(args: &RunArgs, workload: &'static Entry, seed: u64) -> anyhow::Result<Options> {
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => std::env::current_exe()?,
    };
    let binary = binary.canonicalize().with_context(|| format!("--binary {}", binary.display()))?;
    anyhow::ensure!((1..=9).contains(&args.members), "--members must be between 1 and 9");
    anyhow::ensure!(args.rate > 0, "--rate must be at least 1");
    anyhow::ensure!(
        args.nemesis_interval >= Duration::from_secs(1),
        "--nemesis-interval must be at least 1s"
    );
    let is_elsewhere = !args.endpoints.is_empty();
    let default = if is_elsewhere { vec![] } else { vec!["kill".to_owned(), "partition".to_owned()] };
    let names = args.nemesis.as_ref().unwrap_or(&default);
    let nemesis = turns_of(names, workload).map_err(anyhow::Error::msg)?;
    anyhow::ensure!(
        !is_elsewhere || nemesis.is_empty(),
        "faults are only injected into members of the run's own: --endpoints goes with --nemesis none"
    );
    anyhow::ensure!(
        !is_elsewhere || !workload.needs_own_store,
        "--workload {} changes more than keys of its own: it does not go with --endpoints",
        workload.name
    );
    anyhow::ensure!(
        workload.tier == Tier::Store || !Program::new(&binary).is_etcd(),
        "--workload {} needs API servers: --binary names a keelson",
        workload.name
    );
    let count = if is_elsewhere { args.endpoints.len() } else { args.members };
    for kind in nemesis.iter().flat_map(|turn| turn.kinds()) {
        let least = kind.members_min();
        anyhow::ensure!(args.members >= least, "--nemesis {kind} needs at least {least} members");
        anyhow::ensure!(
            kind.fits_etcd() || !Program::new(&binary).is_etcd(),
            "--nemesis {kind} does not work on etcd: a Go program asks the kernel for the time, not the C library, and always keeps \
             five thousand entries of its log"
        );
    }
    let members = u32::try_from(count).context("--members")?;
    let options = Options {
        workload,
        nemesis,
        members: count,
        time_limit: args.time_limit,
        nemesis_interval: args.nemesis_interval,
        rate: args.rate,
        concurrency: args.concurrency.unwrap_or(4 * members),
        seed,
        binary,
        environment: args.member_env.clone(),
        leave_running: args.leave_running,
        endpoints: args.endpoints.clone(),
    };
    anyhow::ensure!((1..=1000).contains(&options.concurrency), "--concurrency must be between 1 and 1000");
    Ok(options)
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}
