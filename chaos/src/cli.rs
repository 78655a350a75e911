//! `keelson chaos`.

use std::process::ExitCode;

/// Runs workloads against a store while faults are injected, and judges what clients saw
#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// Not implemented yet.
pub fn run(_args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("keelson chaos: not implemented")
}
