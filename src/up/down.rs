//! `keelson down`: stops the cluster of a data directory and waits until it is gone.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::layout::Layout;
use crate::outcome::Usage;

/// Containers stop with their grace period; nothing takes longer than this.
const STOP_TIMEOUT: Duration = Duration::from_secs(120);

/// Settings of `keelson down`.
#[derive(Clone, Debug, clap::Args)]
pub struct DownArgs {
    /// Data directory of the cluster.
    #[arg(long, default_value = "/var/lib/keelson")]
    data_dir: PathBuf,
}

/// Asks `keelson up` to stop, and waits until it has.
pub fn run(args: &DownArgs) -> Result<ExitCode> {
    let layout = Layout::new(&std::path::absolute(&args.data_dir)?);
    let root = layout.root().display().to_string();
    let Ok(text) = fs::read_to_string(layout.pid_file("up")) else {
        return Err(Usage(format!("no cluster runs on {root}")).into());
    };
    let pid: i32 =
        text.trim().parse().map_err(|_error| Usage(format!("{root}/run/up.pid holds no process id")))?;
    // Only the holder of the lock is asked: the id alone may belong to someone else by now.
    if layout.lock("up").is_ok() {
        return Err(Usage(format!("no cluster runs on {root}")).into());
    }
    kill(Pid::from_raw(pid), Signal::SIGTERM)?;
    let deadline = Instant::now() + STOP_TIMEOUT;
    while layout.lock("up").is_err() {
        if Instant::now() > deadline {
            bail!("process {pid} did not stop within {} s; see {root}/logs", STOP_TIMEOUT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(ExitCode::SUCCESS)
}
