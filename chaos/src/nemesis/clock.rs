//! Clock: the wall clock of one member or of a minority jumps, by seconds to days, back or ahead, and jumps back later.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Site;
use super::fault::{Aim, Fault};

/// Below and above leases, and above the life of certificates.
const JUMPS_SECONDS: [i64; 8] = [-2, 2, -60, 60, -3_600, 3_600, -400 * 86_400, 400 * 86_400];

pub(super) struct ClockJump {
    members: Vec<usize>,
    seconds: i64,
}

impl ClockJump {
    pub(super) fn new(aim: Aim) -> Self {
        let seconds = aim.draw.pick(&JUMPS_SECONDS).copied().unwrap_or(3_600);
        Self { members: aim.one_or_minority(), seconds }
    }

    /// Sets all clocks; returns whether all members have read theirs.
    async fn set(&self, site: &Site<'_>, seconds: i64) -> anyhow::Result<bool> {
        let mut is_read = true;
        for index in &self.members {
            let Some(member) = site.cluster.members.get(*index) else { return Ok(false) };
            let (Some(clock), Some(pid)) = (&member.clock, member.pid()) else { return Ok(false) };
            is_read &= clock.set(seconds, pid).await?;
        }
        Ok(is_read)
    }
}

#[async_trait(?Send)]
impl Fault for ClockJump {
    fn members(&self) -> Vec<usize> {
        self.members.clone()
    }

    fn plan(&self) -> Value {
        json!({ "jump_seconds": self.seconds })
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let is_read = self.set(site, self.seconds).await?;
        Ok(is_read.then(|| json!({ "library": "in the process", "offset": "read" })))
    }

    async fn end(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        self.set(site, 0).await?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::Draw;

    #[test]
    fn clocks_jump_both_ways_and_never_those_of_a_majority() {
        let jumps: Vec<ClockJump> = (0..200)
            .map(|seed| ClockJump::new(Aim { victim: 0, count: 5, draw: Draw::from_seed(seed) }))
            .collect();
        for seconds in JUMPS_SECONDS {
            assert!(jumps.iter().any(|jump| jump.seconds == seconds), "{seconds}");
        }
        assert!(jumps.iter().all(|jump| jump.members.len() <= 2));
    }
}
