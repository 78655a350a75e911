//! `keelson bench`.

use std::process::ExitCode;

/// Measures the store beside etcd
#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// Not implemented yet.
pub fn run(_args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("keelson bench: not implemented")
}
