//! `cargo xtask up`: set up, build, start a cluster in the foreground.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{self, cargo, root, target};
use crate::setup;

#[derive(clap::Args)]
pub struct Args {
    /// Passed on to `keelson up`, for example `--servers 3 --agents 2`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    up: Vec<String>,
}

pub fn run(args: &Args) -> Result<()> {
    setup::prepare()?;
    let binary = release_binary()?;
    let mut command = Command::new(&binary);
    command.arg("up");
    if !args.up.iter().any(|arg| arg.starts_with("--data-dir")) {
        let data_dir = root().join(".keelson");
        let images = data_dir.join("images");
        process::run(Command::new(&binary).args(["image", "pack", "--output"]).arg(images))?;
        command.arg("--data-dir").arg(data_dir);
    }
    command.args(&args.up);
    // Replaces this process, so that Ctrl-C reaches only the cluster.
    let error = command.exec();
    bail!("cannot start the built binary: {error}")
}

/// Builds the release binary and returns its path.
pub fn release_binary() -> Result<PathBuf> {
    process::run(cargo().args(BUILD).args(["--bin", "keelson"]))?;
    Ok(target().join("release/keelson"))
}

/// How everything is built. Naming a test makes cargo resolve the features that tests need, so that binary, tests and plants share
/// one build of every dependency, and what the tests ran is what is started.
pub const BUILD: [&str; 6] = ["build", "--release", "--locked", "--workspace", "--test", "bad_input"];
