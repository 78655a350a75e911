//! Slow processor: one member or a minority gets a hundredth of a processor, a little all the time or all of it in one go each second.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Site;
use super::fault::{Aim, Fault};
use crate::cluster::{CpuQuota, Throttled};

pub(super) struct SlowCpu {
    members: Vec<usize>,
    pace: Pace,
    quotas: Vec<CpuQuota>,
}

/// When a member gets what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Pace {
    /// A millisecond in each tenth of a second: it is in time for an election, and late for everything.
    Even,
    /// Ten milliseconds in each second: between them it stands still for longer than an election takes.
    Bursts,
}

impl Pace {
    fn period(self) -> Duration {
        match self {
            Self::Even => Duration::from_millis(100),
            Self::Bursts => Duration::from_secs(1),
        }
    }
}

impl SlowCpu {
    pub(super) fn new(aim: Aim) -> Self {
        let pace = if aim.draw.choice(0, 2) == 0 { Pace::Even } else { Pace::Bursts };
        Self { members: aim.one_or_minority(), pace, quotas: Vec::new() }
    }
}

#[async_trait(?Send)]
impl Fault for SlowCpu {
    fn members(&self) -> Vec<usize> {
        self.members.clone()
    }

    fn plan(&self) -> Value {
        json!({ "pace": self.pace })
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        for member in &self.members {
            let Some(member) = site.cluster.members.get(*member) else { continue };
            let name = format!("{}-{}", site.network.run_id(), member.name);
            let quota = CpuQuota::create(&name, self.pace.period())?;
            if let Some(pid) = member.pid() {
                quota.take(pid)?;
            }
            self.quotas.push(quota);
        }
        Ok(None)
    }

    async fn end(&mut self, _: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let throttled: Vec<Throttled> =
            self.quotas.drain(..).map(|quota| quota.throttled()).collect::<Result<_, _>>()?;
        Ok(witness(&throttled))
    }
}

/// Each of the members had to wait.
fn witness(throttled: &[Throttled]) -> Option<Value> {
    let has_waited = |throttled: &Throttled| throttled.periods > 0 && !throttled.waited.is_zero();
    (!throttled.is_empty() && throttled.iter().all(has_waited)).then(|| {
        let periods: Vec<u64> = throttled.iter().map(|throttled| throttled.periods).collect();
        let waited: Vec<u128> = throttled.iter().map(|throttled| throttled.waited.as_millis()).collect();
        json!({ "periods_used_up": periods, "waited_ms": waited })
    })
}

/// Keeps a process busy below a quota; returns how often it had to wait.
pub(super) fn try_out(name: &str) -> anyhow::Result<String> {
    let quota = CpuQuota::create(name, Pace::Even.period())?;
    let mut busy = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn()?;
    let shown = wait_for_throttling(&quota, busy.id());
    busy.kill()?;
    busy.wait()?;
    let Throttled { periods, .. } = shown?;
    anyhow::ensure!(periods > 0, "a busy process has all the time that it wants below a quota");
    Ok(format!("a busy process had to wait in {periods} periods"))
}

/// Longest that the kernel may take to make a busy process wait.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(3);

fn wait_for_throttling(quota: &CpuQuota, pid: u32) -> anyhow::Result<Throttled> {
    quota.take(pid)?;
    let began = std::time::Instant::now();
    loop {
        let throttled = quota.throttled()?;
        if throttled.periods > 0 || began.elapsed() > TRIAL_TIMEOUT {
            return Ok(throttled);
        }
        std::thread::sleep(Pace::Even.period());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::Draw;

    #[test]
    fn both_paces_are_drawn_and_never_more_than_a_minority() {
        let faults: Vec<SlowCpu> = (0..100)
            .map(|seed| SlowCpu::new(Aim { victim: 4, count: 5, draw: Draw::from_seed(seed) }))
            .collect();
        for pace in [Pace::Even, Pace::Bursts] {
            for members in [1, 2] {
                let is_drawn = |fault: &SlowCpu| fault.pace == pace && fault.members.len() == members;
                assert!(faults.iter().any(is_drawn), "{pace:?} for {members}");
            }
        }
        assert!(faults.iter().all(|fault| fault.members.len() <= 2 && fault.members.contains(&4)));
    }

    #[test]
    fn a_member_that_never_had_to_wait_is_no_witness() {
        let waited = Throttled { periods: 3, waited: Duration::from_millis(200) };
        assert_eq!(witness(&[waited]), Some(json!({ "periods_used_up": [3], "waited_ms": [200] })));
        assert_eq!(witness(&[waited, Throttled::default()]), None);
        assert_eq!(witness(&[]), None);
    }
}
