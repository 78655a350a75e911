//! One member process.

use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context;
use tokio::process::{Child, Command};

use super::Program;

/// A member, running or not. Its data directory outlives the process.
pub struct Member {
    pub name: String,
    pub(super) namespace: Option<String>,
    pub(super) program: Program,
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
