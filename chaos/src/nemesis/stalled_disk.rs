//! Stalled disk: the file system is frozen, so that every write waits, and thawed later.
//!
//! A frozen file system outlives its mounts. So a process of its own freezes it and thaws it when the harness lets go of a pipe,
//! in whichever way, and after a minute in any case.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::Site;
use super::fault::{Aim, Fault};

/// Freezes, waits for the end of its input, thaws.
pub(super) const GUARD: &str = "trap '' INT TERM HUP; fsfreeze --freeze \"$0\" || exit 1; echo frozen; \
                     timeout 60 cat > /dev/null; exec fsfreeze --unfreeze \"$0\"";
/// Freezing writes out what is dirty.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(20);
const THAW_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) struct StalledDisk {
    member: usize,
    stalled: Option<Stalled>,
}

struct Stalled {
    guard: Child,
    /// A write that waits for the thaw.
    write: Child,
    since: Instant,
}

impl StalledDisk {
    pub(super) fn new(aim: Aim) -> Self {
        Self { member: aim.victim, stalled: None }
    }
}

#[async_trait(?Send)]
impl Fault for StalledDisk {
    fn members(&self) -> Vec<usize> {
        vec![self.member]
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let disk = site.disk(self.member)?;
        disk.device()?;
        let mut guard = Command::new("sh")
            .args(["-c", GUARD])
            .arg(disk.mount_point())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start the guard of a frozen disk")?;
        let said = guard.stdout.take().context("the guard has no output")?;
        let mut lines = BufReader::new(said).lines();
        let frozen = tokio::time::timeout(FREEZE_TIMEOUT, lines.next_line()).await;
        let is_frozen = matches!(frozen, Ok(Ok(Some(line))) if line == "frozen");
        anyhow::ensure!(is_frozen, "the disk of a member does not freeze");
        let probe = disk.mount_point().join("chaos-stalled");
        let write = Command::new("dd")
            .args(["if=/dev/zero", &format!("of={}", probe.display()), "bs=4k", "count=1", "conv=fsync"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        self.stalled = Some(Stalled { guard, write, since: Instant::now() });
        Ok(None)
    }

    async fn end(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let Some(mut stalled) = self.stalled.take() else { return Ok(None) };
        let has_waited = stalled.write.try_wait()?.is_none();
        drop(stalled.guard.stdin.take());
        let thawing = async {
            let status = stalled.guard.wait().await?;
            anyhow::ensure!(status.success(), "the disk of a member does not thaw ({status})");
            stalled.write.wait().await?;
            anyhow::Ok(())
        };
        tokio::time::timeout(THAW_TIMEOUT, thawing).await.context("the disk of a member does not thaw")??;
        let waited = u64::try_from(stalled.since.elapsed().as_millis())?;
        let probe = site.disk(self.member)?.mount_point().join("chaos-stalled");
        if probe.exists() {
            std::fs::remove_file(probe)?;
        }
        Ok(has_waited.then(|| json!({ "write_waited_ms": waited })))
    }
}
