//! Rolling restart: every member in turn is asked to end (SIGTERM), started again, and waited for.

use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use serde_json::{Value, json};

use super::Site;
use super::fault::{Aim, Fault};

pub(super) struct Restart {
    /// In the order in which they are restarted.
    members: Vec<usize>,
}

impl Restart {
    pub(super) fn new(aim: Aim) -> Self {
        Self { members: (0..aim.count).map(|step| (aim.victim + step) % aim.count).collect() }
    }
}

#[async_trait(?Send)]
impl Fault for Restart {
    fn members(&self) -> Vec<usize> {
        self.members.clone()
    }

    fn lasting(&self, _: Duration) -> Duration {
        Duration::ZERO
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let mut pids = Vec::new();
        for index in &self.members {
            let member = site.cluster.members.get_mut(*index).context("no such member")?;
            let Some(before) = member.pid() else { return Ok(None) };
            member.terminate().await?;
            member.start()?;
            let after = member.pid();
            if !site.cluster.wait_serving(*index).await {
                return Ok(None);
            }
            pids.push((before, after));
        }
        Ok(Some(json!({ "pids": pids })))
    }

    async fn end(&mut self, _: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::Draw;

    #[test]
    fn all_are_restarted_one_after_the_other_beginning_with_the_victim() {
        let restart = Restart::new(Aim { victim: 1, count: 3, draw: Draw::from_seed(1) });
        assert_eq!(restart.members(), [1, 2, 0]);
    }
}
