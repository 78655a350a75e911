//! Leader transfer: whoever leads is asked to hand over to another member.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Site;
use super::fault::{Aim, Fault};

/// There may be no leader just now, or the chosen one may be behind.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(20);
const TRANSFER_POLL: Duration = Duration::from_millis(100);

pub(super) struct Transfer {
    victim: usize,
    others: usize,
    count: usize,
}

impl Transfer {
    pub(super) fn new(aim: Aim) -> Self {
        let others = u64::try_from(aim.count.saturating_sub(1)).unwrap_or(0);
        let others = usize::try_from(aim.draw.choice(0, others)).unwrap_or(0);
        Self { victim: aim.victim, others, count: aim.count }
    }

    /// Returns who is to lead after this leader.
    fn heir(&self, leader: usize) -> usize {
        (leader + 1 + self.others) % self.count.max(1)
    }
}

#[async_trait(?Send)]
impl Fault for Transfer {
    fn members(&self) -> Vec<usize> {
        vec![self.victim]
    }

    fn lasting(&self, usual: Duration) -> Duration {
        usual / 4
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let began = Instant::now();
        while began.elapsed() < TRANSFER_TIMEOUT {
            if let Some(leader) = site.cluster.leader().await {
                let heir = self.heir(leader);
                if site.cluster.transfer(leader, heir).await? && site.cluster.leader().await == Some(heir) {
                    let name = |index: usize| site.cluster.members.get(index).map(|member| &member.name);
                    return Ok(Some(json!({ "from": name(leader), "to": name(heir) })));
                }
            }
            tokio::time::sleep(TRANSFER_POLL).await;
        }
        Ok(None)
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
    fn the_heir_is_another_one_and_each_can_be() {
        let heirs: std::collections::BTreeSet<usize> = (0..100)
            .map(|seed| Transfer::new(Aim { victim: 0, count: 5, draw: Draw::from_seed(seed) }).heir(3))
            .collect();
        assert_eq!(heirs.into_iter().collect::<Vec<_>>(), [0, 1, 2, 4]);
    }
}
