//! Delay: what one member sends and receives takes longer, and packets overtake each other.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Site;
use super::fault::{Aim, Fault};
use crate::cluster::{Delay, DelayLine};

pub(super) struct Delayed {
    member: usize,
    delay: Delay,
    seed: u64,
    line: Option<DelayLine>,
}

impl Delayed {
    pub(super) fn new(aim: Aim) -> Self {
        // Below and above the time between two heartbeats.
        let base = Duration::from_millis(5 + aim.draw.choice(0, 76));
        let delay = Delay { base, jitter: base };
        Self { member: aim.victim, delay, seed: aim.draw.choice(1, u64::MAX), line: None }
    }
}

#[async_trait(?Send)]
impl Fault for Delayed {
    fn members(&self) -> Vec<usize> {
        vec![self.member]
    }

    fn plan(&self) -> Value {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        json!({ "delay_ms": ms(self.delay.base), "jitter_ms": ms(self.delay.jitter) })
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let Some(member) = site.cluster.members.get(self.member) else { return Ok(None) };
        self.line = Some(DelayLine::start(&member.name, self.delay, self.seed)?);
        Ok(None)
    }

    async fn end(&mut self, _: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let Some(line) = self.line.take() else { return Ok(None) };
        let (frames, overtaken) = line.counts();
        line.end().await?;
        Ok((overtaken > 0).then(|| json!({ "frames_delayed": frames, "overtaken": overtaken })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::Draw;

    #[test]
    fn delays_lie_on_both_sides_of_half_a_heartbeat() {
        let delays: Vec<u128> = (0..100)
            .map(|seed| {
                Delayed::new(Aim { victim: 0, count: 3, draw: Draw::from_seed(seed) }).delay.base.as_millis()
            })
            .collect();
        assert!(delays.iter().all(|delay| (5..=80).contains(delay)));
        assert!(delays.iter().any(|delay| *delay < 20) && delays.iter().any(|delay| *delay > 60));
    }
}
