//! Install: one member is away until the others have forgotten what it misses, so that it must take over a whole state; twice in a row, as
//! the second state meets what the first one left.

use std::time::{Duration, Instant};

use anyhow::Context;
use async_trait::async_trait;
use serde_json::{Value, json};

use super::Site;
use super::fault::{Aim, Fault};

/// Members of such a run make their state durable after so many entries, and keep so many behind it.
pub const SNAPSHOT_COUNT: u64 = 100;
pub const CATCHUP_ENTRIES: u64 = 20;
/// After so many entries nobody has the first of them.
const FORGOTTEN_ENTRIES: u64 = 3 * SNAPSHOT_COUNT + CATCHUP_ENTRIES;
/// Longest wait for clients to write that much.
const FORGET_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait until the member has taken over a state.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
const TIMES: usize = 2;
/// States that a member has taken over since it started.
const INSTALLED: &str = "keelson_store_snapshots_installed_total";

pub(super) struct Install {
    member: usize,
    /// Last entry of the log when the member went.
    left_at: u64,
}

impl Install {
    pub(super) fn new(aim: Aim) -> Self {
        Self { member: aim.victim, left_at: 0 }
    }

    /// Kills the member and notes where the log is.
    async fn leave(&mut self, site: &mut Site<'_>) -> anyhow::Result<()> {
        let member = site.cluster.members.get_mut(self.member).context("no such member")?;
        member.kill().await?;
        self.left_at = site.cluster.last_entry().await;
        Ok(())
    }

    /// Lets the member return once it is missed for long enough; how many entries it missed, if it took over a state.
    async fn come_back(&self, site: &mut Site<'_>) -> anyhow::Result<Option<u64>> {
        let missed = within(FORGET_TIMEOUT, async || {
            let missed = site.cluster.last_entry().await.saturating_sub(self.left_at);
            (missed >= FORGOTTEN_ENTRIES).then_some(missed)
        })
        .await;
        site.cluster.members.get_mut(self.member).context("no such member")?.start()?;
        let Some(missed) = missed else { return Ok(None) };
        let installed = within(INSTALL_TIMEOUT, async || {
            site.cluster.metric(self.member, INSTALLED).await.filter(|installed| *installed > 0)
        });
        Ok(installed.await.map(|_| missed))
    }
}

#[async_trait(?Send)]
impl Fault for Install {
    fn members(&self) -> Vec<usize> {
        vec![self.member]
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        self.leave(site).await?;
        Ok(None)
    }

    async fn end(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let mut all_missed = Vec::new();
        while let Some(missed) = self.come_back(site).await? {
            all_missed.push(missed);
            if all_missed.len() == TIMES {
                return Ok(Some(json!({ "states_taken_over": TIMES, "entries_missed": all_missed })));
            }
            self.leave(site).await?;
        }
        Ok(None)
    }
}

/// Looks for something until it is there, or the time is over.
async fn within<T>(timeout: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return Some(found);
        }
        if began.elapsed() > timeout {
            return None;
        }
        tokio::time::sleep(POLL).await;
    }
}
