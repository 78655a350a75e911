//! One member process.

use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::{Clock, Program};

/// A member that ends in order may have a large state to save.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(60);

/// A signal reaches all threads at once, but for one that waits for a disk.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
const STOP_POLL: Duration = Duration::from_millis(2);

/// A member, running or not. Its data directory outlives the process.
pub struct Member {
    pub name: String,
    pub(super) namespace: Option<String>,
    pub(super) program: Program,
    /// Its wall clock, if it has one of its own.
    pub clock: Option<Clock>,
    pub(super) arguments: Vec<String>,
    pub(super) log: PathBuf,
    pub(super) child: Option<Child>,
}

/// Witness of a kill: the process that was ours to wait for has ended by the signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killed {
    pub pid: u32,
    pub signal: i32,
}

impl Member {
    /// Starts the process. It dies with the calling thread, so that an aborted harness leaves nothing running.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        // Both tools replace themselves by what they start: the pid is the member's.
        let enter =
            self.namespace.as_ref().map(|name| ["nsenter".to_owned(), format!("--net=/run/netns/{name}")]);
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .args(enter.iter().flatten())
            .arg(&self.program.binary)
            .args(&self.arguments)
            .envs(self.program.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot start member {}", self.name))?;
        self.child = Some(child);
        Ok(())
    }

    /// Lets the next start join a cluster of these members.
    pub(super) fn join(&mut self, initial_cluster: &str) {
        for argument in &mut self.arguments {
            if argument.starts_with("--initial-cluster=") {
                *argument = format!("--initial-cluster={initial_cluster}");
            } else if argument.starts_with("--initial-cluster-state=") {
                "--initial-cluster-state=existing".clone_into(argument);
            }
        }
    }

    /// Kills the process with SIGKILL and waits for its end. `None` when it had ended by itself.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub async fn kill(&mut self) -> anyhow::Result<Option<Killed>> {
        let Some(mut child) = self.child.take() else { return Ok(None) };
        let Some(pid) = child.id() else { return Ok(None) };
        child.start_kill().with_context(|| format!("cannot kill member {}", self.name))?;
        let status = child.wait().await?;
        Ok(status.signal().map(|signal| Killed { pid, signal }))
    }

    /// Stops the process (SIGSTOP) and waits until all of it stands still; returns its pid, `None` when it does not run.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub async fn pause(&self) -> anyhow::Result<Option<u32>> {
        let Some(pid) = self.pid() else { return Ok(None) };
        signal::kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGSTOP)?;
        let standing = async {
            while !stands_still(pid) {
                tokio::time::sleep(STOP_POLL).await;
            }
        };
        Ok(tokio::time::timeout(STOP_TIMEOUT, standing).await.is_ok().then_some(pid))
    }

    /// Lets a paused process go on.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn resume(&self) -> anyhow::Result<()> {
        if let Some(pid) = self.pid() {
            signal::kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGCONT)?;
        }
        Ok(())
    }

    /// Asks the process to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// When it cannot be asked or does not end in time; it runs on then.
    pub async fn terminate(&mut self) -> anyhow::Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        if let Some(pid) = child.id() {
            signal::kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM)?;
        }
        let ended = tokio::time::timeout(TERMINATE_TIMEOUT, child.wait()).await;
        ended.with_context(|| format!("member {} does not end", self.name))??;
        self.child = None;
        Ok(())
    }

    /// Returns the pid of the running process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref()?.id()
    }

    /// Returns the last line of its log.
    pub(super) fn last_words(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log).lines().last().unwrap_or("it logged nothing").to_owned()
    }

    /// Whether the process has ended by itself; says how.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        Some(status.to_string())
    }
}

/// Whether every thread of a process is stopped by a signal.
fn stands_still(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The name before it, in brackets, may contain anything.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_process_stands_still_and_a_waiting_one_does_not() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        assert!(!stands_still(child.id()));
        signal::kill(pid, Signal::SIGSTOP).unwrap();
        let deadline = std::time::Instant::now() + STOP_TIMEOUT;
        while !stands_still(child.id()) {
            assert!(std::time::Instant::now() < deadline, "it does not stop");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!stands_still(child.id()));
    }
}
