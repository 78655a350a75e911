//! `keelson token`: what an agent needs to join.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use apiserver::pki::Bundle;

use crate::outcome::Usage;

/// Most hours that a join token may live: a month.
const HOURS_MAX: u32 = 24 * 31;

/// What to do with tokens.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum TokenCommand {
    /// Prints a new token for `keelson agent --token`.
    Create {
        /// Data directory of the cluster.
        #[arg(long, default_value = "/var/lib/keelson")]
        data_dir: PathBuf,
        /// Hours until it expires.
        #[arg(long, default_value_t = 24)]
        hours: u32,
    },
}

/// Runs a token command.
pub fn run(command: &TokenCommand) -> Result<ExitCode> {
    match command {
        TokenCommand::Create { data_dir, hours } => {
            if *hours == 0 || *hours > HOURS_MAX {
                return Err(Usage(format!("--hours must be 1 to {HOURS_MAX}")).into());
            }
            let pki = data_dir.join("pki");
            if !pki.exists() {
                return Err(Usage(format!("{} holds no cluster", data_dir.display())).into());
            }
            let bundle = Bundle::load_or_create(&pki).context("cannot use the cluster's keys")?;
            let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(i64::from(*hours));
            print(&bundle.join_token(expires).to_string());
            Ok(ExitCode::SUCCESS)
        }
    }
}

#[expect(clippy::print_stdout, reason = "the token is the command's output")]
fn print(token: &str) {
    println!("{token}");
}
