//! Keeps the processes of a cluster running: starts them, writes their pid files, restarts what dies, stops them in order.
//!
//! ```text
//! start ──► running ──exit──► waiting (back-off) ──► running
//!              └──stop──► SIGTERM ──grace──► SIGKILL ──► gone
//! ```

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::files::write_atomically;
use crate::outcome::{USAGE, Usage};

/// Pause before the first restart. A server that was killed must be back well within 5 s.
const RESTART_DELAY_FIRST: Duration = Duration::from_millis(500);

/// Longest pause between restarts of a process that keeps dying.
const RESTART_DELAY_MAX: Duration = Duration::from_secs(15);

/// A process that ran this long was healthy: its next restart waits the shortest pause again.
const HEALTHY_AFTER: Duration = Duration::from_secs(20);

/// How to run one process of the cluster.
#[derive(Clone, Debug)]
pub struct Program {
    /// For example `server-1`.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    pub pid_file: PathBuf,
    pub log_file: PathBuf,
    /// Time for a clean end after SIGTERM.
    pub grace: Duration,
}

/// Runs a program until `shutdown`, restarting it when it ends by itself.
///
/// # Errors
/// When it cannot be started at all, or when it ends with the code for wrong use, which no restart mends.
pub async fn keep_running(program: Program, shutdown: CancellationToken) -> Result<()> {
    let mut delay = RESTART_DELAY_FIRST;
    loop {
        let started = tokio::time::Instant::now();
        let log_start = fs::metadata(&program.log_file).map_or(0, |log| log.len());
        let mut child = start(&program)?;
        let status = tokio::select! {
            status = child.wait() => status?,
            () = shutdown.cancelled() => return stop(&program, &mut child).await,
        };
        remove_pid_file(&program);
        let said = last_words(&program, log_start);
        refuse_wrong_use(&program, status, said.as_deref())?;
        if started.elapsed() >= HEALTHY_AFTER {
            delay = RESTART_DELAY_FIRST;
        }
        warn!(program = program.name, %status, restart_in_ms = delay.as_millis(), "process ended");
        let reason = said.unwrap_or_else(|| format!("see {}", program.log_file.display()));
        eprintln!("keelson: {} ended ({status}) and starts again; {reason}", program.name);
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
        delay = (delay * 2).min(RESTART_DELAY_MAX);
    }
}

fn start(program: &Program) -> Result<Child> {
    let log = File::options().create(true).append(true).open(&program.log_file);
    let log = log.with_context(|| format!("cannot open {}", program.log_file.display()))?;
    let (executable, args) = program.command.split_first().context("a program needs a command")?;
    let mut command = Command::new(executable);
    command.args(args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // Ctrl-C in the terminal reaches the supervisor alone, which then stops everything in order.
    command.process_group(0);
    let child = command.spawn().with_context(|| format!("cannot start {}", program.name))?;
    let pid = child.id().context("a process that was just started has an id")?;
    write_atomically(&program.pid_file, format!("{pid}\n").as_bytes())?;
    info!(program = program.name, pid, "process started");
    Ok(child)
}

async fn stop(program: &Program, child: &mut Child) -> Result<()> {
    signal(child, Signal::SIGTERM);
    if tokio::time::timeout(program.grace, child.wait()).await.is_err() {
        warn!(
            program = program.name,
            grace_seconds = program.grace.as_secs(),
            "process did not stop in time, killed"
        );
        signal(child, Signal::SIGKILL);
        child.wait().await?;
    }
    remove_pid_file(program);
    Ok(())
}

fn signal(child: &Child, signal: Signal) {
    let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) else { return };
    if let Err(error) = kill(Pid::from_raw(pid), signal) {
        warn!(pid, %error, "cannot signal process");
    }
}

fn remove_pid_file(program: &Program) {
    if let Err(error) = fs::remove_file(&program.pid_file) {
        warn!(file = %program.pid_file.display(), %error, "cannot remove pid file");
    }
}

/// Exit code 64 says that flags, ports or the data directory are wrong: a person must act.
fn refuse_wrong_use(program: &Program, status: ExitStatus, said: Option<&str>) -> Result<()> {
    if status.code() != Some(i32::from(USAGE)) {
        return Ok(());
    }
    Err(Usage(format!("{}: {}", program.name, said.unwrap_or("wrong use"))).into())
}

/// Returns the line with which the process ended, if it said one: what stands in its log since `log_start`.
fn last_words(program: &Program, log_start: u64) -> Option<String> {
    let mut log = File::open(&program.log_file).ok()?;
    log.seek(SeekFrom::Start(log_start)).ok()?;
    let mut bytes = Vec::new();
    log.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().rev().find_map(|line| line.strip_prefix("keelson: ")).map(str::to_owned)
}
