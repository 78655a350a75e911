//! `keelson chaos`: run, check, doctor.

mod doctor;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use crate::check::judge::judge;
use crate::history;
use crate::nemesis::Kind;
use crate::run::{Folder, Options, Outcome, Workload, run as run_workload, say};

/// Exit code for wrong use (Jepsen's).
const USAGE: u8 = 254;
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
    /// Judges a finished run again
    Check {
        /// Folder of the run
        run: PathBuf,
    },
    /// Says which faults this machine can inject
    Doctor,
}

#[derive(Clone, Debug, clap::Args)]
struct RunArgs {
    /// What clients do
    #[arg(long, value_enum, default_value = "register")]
    workload: Workload,
    /// Faults, in turns; `none` for none
    #[arg(long, value_delimiter = ',', default_value = "kill,partition")]
    nemesis: Vec<String>,
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
    /// Folder for history and report [default: chaos-runs/SEED]
    #[arg(long)]
    output: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When the answer cannot be given; the exit codes for wrong use and for a broken harness are answers.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let code = match args.command {
        Command::Run(args) => match options(&args) {
            Ok(options) => run_and_report(&options, args.output.as_deref()),
            Err(error) => {
                tell(&error);
                return Ok(ExitCode::from(USAGE));
            }
        },
        Command::Check { run } => check(&run),
        Command::Doctor => Ok(doctor::run()),
    };
    Ok(ExitCode::from(code.unwrap_or_else(|error| {
        tell(&error);
        HARNESS
    })))
}

fn tell(error: &anyhow::Error) {
    say(&format!("keelson chaos: {error:#}"));
}

fn options(args: &RunArgs) -> anyhow::Result<Options> {
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
    let nemesis = kinds(&args.nemesis)?;
    anyhow::ensure!(
        args.members > 1 || !nemesis.contains(&Kind::Partition),
        "--nemesis partition needs more than one member"
    );
    let members = u32::try_from(args.members).context("--members")?;
    let seconds = jiff::Timestamp::now().as_second();
    let options = Options {
        workload: args.workload,
        nemesis,
        members: args.members,
        time_limit: args.time_limit,
        nemesis_interval: args.nemesis_interval,
        rate: args.rate,
        concurrency: args.concurrency.unwrap_or(4 * members),
        seed: args.seed.unwrap_or(u64::try_from(seconds).unwrap_or(0)),
        binary,
        environment: args.member_env.clone(),
    };
    anyhow::ensure!((1..=1000).contains(&options.concurrency), "--concurrency must be between 1 and 1000");
    Ok(options)
}

fn kinds(names: &[String]) -> anyhow::Result<Vec<Kind>> {
    let named = names.iter().filter(|name| *name != "none");
    named
        .map(|name| {
            <Kind as clap::ValueEnum>::from_str(name, false)
                .map_err(|_| anyhow::anyhow!("--nemesis {name}: there are kill, partition and none"))
        })
        .collect()
}

fn run_and_report(options: &Options, output: Option<&Path>) -> anyhow::Result<u8> {
    if let Some(missing) = doctor::missing() {
        anyhow::bail!("this machine cannot inject faults: {missing}");
    }
    let default = PathBuf::from("chaos-runs").join(options.seed.to_string());
    let folder = Folder::create(output.unwrap_or(&default))?;
    say(&options.reproduce());
    let outcome = run_workload(options, &folder)?;
    let report = outcome.text(&options.reproduce());
    say(report.split_once('\n').map_or(report.as_str(), |(_, rest)| rest).trim_end());
    say(&format!("history and report: {}", folder.path().display()));
    Ok(outcome.exit_code())
}

fn check(path: &Path) -> anyhow::Result<u8> {
    let folder = Folder::open(path)?;
    let events = history::read(&folder.history())?;
    let (verdict, counts) = judge(&events, &folder.logs()?, &folder.minimums()?);
    let outcome = Outcome { verdict, counts };
    say(outcome.text(&format!("keelson chaos check {}", path.display())).trim_end());
    Ok(outcome.exit_code())
}

/// Parses `60s`, `2m` or `1500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("{text} is not a duration such as 60s"))?;
    match text.strip_prefix(digits) {
        Some("ms") => Ok(Duration::from_millis(number)),
        Some("s" | "") => Ok(Duration::from_secs(number)),
        Some("m") => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err(format!("{text} is not a duration such as 60s")),
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("soon").is_err());
        assert!(duration("5h").is_err());
    }

    #[test]
    fn fault_names_are_checked() {
        let kinds_of = |names: &[&str]| kinds(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(kinds_of(&["kill", "partition"]).unwrap(), [Kind::Kill, Kind::Partition]);
        assert!(kinds_of(&["none"]).unwrap().is_empty());
        assert!(kinds_of(&["earthquake"]).is_err());
    }
}
