//! The command line: which commands there are, and where each one's flags are described.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use nodeagent::cni::plugin;

use crate::outcome::Usage;
use crate::{agent, image, kubeconfig, server, telemetry, token, up};

/// A highly available Kubernetes control plane without etcd.
#[derive(Parser)]
#[command(name = "keelson", version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts a cluster on this machine and stays in the foreground.
    Up(Box<up::UpArgs>),
    /// Stops the cluster of a data directory.
    Down(up::DownArgs),
    /// Runs one server: store member, API server, controllers, scheduler.
    Server(Box<server::ServerArgs>),
    /// Runs one node agent.
    Agent(agent::AgentArgs),
    /// Runs the store alone, with etcd's flag names and ETCD_ variables.
    Store(Box<store::cli::Args>),
    /// Says who belongs to the store's cluster, and changes it.
    #[command(subcommand)]
    Member(store::control::member::Command),
    /// Saves, shows and restores snapshots of the store, in etcd's format.
    #[command(subcommand)]
    Snapshot(store::backup::cli::Command),
    /// Works with container images.
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Works with the tokens that agents join with.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Works with the files that kubectl signs in with.
    #[command(subcommand)]
    Kubeconfig(kubeconfig::KubeconfigCommand),
    /// Attacks a cluster and checks what it promised.
    Chaos(chaos::cli::Args),
    /// Generates load and measures.
    Bench(chaos::load::Args),
}

/// Runs what the command line asks for. Wrong flags end the process with the code for wrong use.
pub fn run() -> Result<ExitCode> {
    if std::env::args_os().next().is_some_and(|program| plugin::is_plugin_call(Path::new(&program))) {
        return Ok(plugin::run());
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        // Without any command there is nothing wrong to name, so the help is shown.
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            error.print()?;
            return Ok(ExitCode::from(crate::outcome::USAGE));
        }
        Err(error) if error.use_stderr() => return wrong_use(&error.to_string()),
        Err(help) => {
            help.print()?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    match args.command {
        Command::Up(args) => up::run(&args),
        Command::Down(args) => up::run_down(&args),
        Command::Server(args) => server::run(&args),
        Command::Agent(args) => agent::run(&args),
        Command::Store(args) => crate::wiring::run_store(*args),
        Command::Member(command) => crate::wiring::run_member(command),
        Command::Snapshot(command) => crate::wiring::run_snapshot(command),
        Command::Image(command) => image::run(&command),
        Command::Token(command) => token::run(&command),
        Command::Kubeconfig(command) => kubeconfig::run(&command),
        Command::Chaos(args) => {
            telemetry::start_if_asked();
            chaos::cli::run(args, simulation_kubernetes::SIMULATOR)
        }
        Command::Bench(args) => chaos::load::run(args),
    }
}

/// Says what is wrong. `chaos` has an exit code of its own for it.
fn wrong_use(said: &str) -> Result<ExitCode> {
    let line = one_line(said);
    if std::env::args_os().nth(1).is_some_and(|command| command == "chaos") {
        eprintln!("keelson: {line}");
        return Ok(ExitCode::from(chaos::cli::USAGE));
    }
    Err(Usage(line).into())
}

/// Returns what is wrong in one line: the parser's first paragraph, and where the flags are described.
fn one_line(said: &str) -> String {
    let (reason, rest) = said.split_once("\n\n").unwrap_or((said, ""));
    let reason: Vec<&str> = reason.split_whitespace().skip_while(|word| *word == "error:").collect();
    let usage = rest.lines().find_map(|line| line.strip_prefix("Usage: ")).unwrap_or("keelson");
    let command: Vec<&str> =
        usage.split_whitespace().take_while(|word| !word.starts_with(['-', '<', '['])).collect();
    format!("{}; see {} --help", reason.join(" "), command.join(" "))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    #[track_caller]
    fn check(flags: &[&str], expected: &str) {
        let words = std::iter::once(&"keelson").chain(flags);
        let error = super::Args::try_parse_from(words).err().unwrap();
        assert_eq!(super::one_line(&error.to_string()), expected);
    }

    #[test]
    fn wrong_flags_are_said_in_one_line() {
        check(&["up", "--nonsense"], "unexpected argument '--nonsense' found; see keelson up --help");
        check(&["nonsense"], "unrecognized subcommand 'nonsense'; see keelson --help");
        check(
            &["agent", "--server", "https://a:1"],
            "the following required arguments were not provided: --data-dir <DATA_DIR>; see keelson agent --help",
        );
        check(
            &["up", "--servers", "x"],
            "invalid value 'x' for '--servers <SERVERS>': invalid digit found in string; see keelson --help",
        );
    }
}
