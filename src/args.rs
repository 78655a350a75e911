//! The command line: which commands there are, and where each one's flags are described.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use nodeagent::cni::plugin;

use crate::{agent, image, server, token, up};

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
    /// Works with container images.
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Works with the tokens that agents join with.
    #[command(subcommand)]
    Token(token::TokenCommand),
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
        Err(error) if error.use_stderr() => {
            error.print()?;
            return Ok(ExitCode::from(crate::outcome::USAGE));
        }
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
        Command::Image(command) => image::run(&command),
        Command::Token(command) => token::run(&command),
        Command::Chaos(args) => chaos::cli::run(args),
        Command::Bench(args) => chaos::load::run(args),
    }
}
