//! Counts the calls that make data durable (`fsync`, `fdatasync`), in the kernel and without slowing anybody down.

use std::process::Stdio;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::cluster::run_command;

const EVENTS: &str = "syscalls:sys_enter_fsync,syscalls:sys_enter_fdatasync";
/// Where `perf` mounts the kernel's list of events when nobody has.
const TRACING: &str = "/sys/kernel/tracing";

/// A count that is running.
pub(super) struct SyncCounter {
    perf: Child,
}

impl SyncCounter {
    /// Begins to count the calls of some processes, threads that they start later included.
    ///
    /// # Errors
    /// When `perf` is missing or may not count.
    pub(super) async fn start(pids: &[u32]) -> anyhow::Result<Self> {
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let mut perf = Command::new("perf")
            .args(["stat", "--field-separator", ",", "--event", EVENTS, "--pid", &pids.join(",")])
            // It counts while this program runs, and this program runs until its input ends.
            .args(["--", "cat"])
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("perf")?;
        let (Some(input), Some(output)) = (perf.stdin.as_mut(), perf.stdout.as_mut()) else {
            anyhow::bail!("perf has no pipes");
        };
        // An echo shows that the count has begun. A perf that may not count has closed the pipe by now.
        input.write_all(b"\n").await.context("perf does not count")?;
        output.read_exact(&mut [0]).await.context("perf does not count")?;
        Ok(Self { perf })
    }

    /// Ends the count.
    ///
    /// # Errors
    /// When `perf` does not say it.
    pub(super) async fn stop(mut self) -> anyhow::Result<u64> {
        drop(self.perf.stdin.take());
        let output = self.perf.wait_with_output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        sum(&said).with_context(|| format!("perf said: {}", said.trim()))
    }
}

/// Adds up all events; `None` when one was not counted.
fn sum(said: &str) -> Option<u64> {
    let counts = said.lines().filter(|line| line.contains("sys_enter_"));
    let counts: Vec<u64> = counts.map(|line| line.split(',').next()?.parse().ok()).collect::<Option<_>>()?;
    (!counts.is_empty()).then(|| counts.iter().sum())
}

/// Leaves the machine as it was: `perf` mounts the list of events and never unmounts it.
pub(super) struct Unmount {
    was_mounted: bool,
}

impl Unmount {
    pub(super) fn at_end() -> Self {
        Self { was_mounted: is_mounted() }
    }
}

impl Drop for Unmount {
    fn drop(&mut self) {
        if !self.was_mounted
            && is_mounted()
            && let Err(error) = run_command("umount", &[TRACING], "")
        {
            tracing::warn!(error = format!("{error:#}"), "the kernel's list of events stays mounted");
        }
    }
}

fn is_mounted() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(1) == Some(TRACING))
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn all_events_are_added() {
        let said = "50,,syscalls:sys_enter_fdatasync,92301739,100.00,,\n3,,syscalls:sys_enter_fsync,92301739,100.00,,\n";
        assert_eq!(sum(said), Some(53));
    }

    #[test]
    fn an_event_that_was_not_counted_makes_no_sum() {
        assert_eq!(sum("<not counted>,,syscalls:sys_enter_fsync,0,100.00,,\n"), None);
        assert_eq!(sum("event syntax error\n"), None);
    }
}
