//! Slow disk: what one member writes passes a ceiling of bytes per second.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Site;
use super::fault::{Aim, Fault};
use crate::cluster::Throttle;

pub(super) struct SlowDisk {
    member: usize,
    throttle: Option<Throttle>,
}

impl SlowDisk {
    pub(super) fn new(aim: Aim) -> Self {
        Self { member: aim.victim, throttle: None }
    }
}

#[async_trait(?Send)]
impl Fault for SlowDisk {
    fn members(&self) -> Vec<usize> {
        vec![self.member]
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let Some(member) = site.cluster.members.get(self.member) else { return Ok(None) };
        let disk = site.disk(self.member)?;
        let name = format!("{}-{}", site.network.run_id(), member.name);
        let probe = disk.mount_point().join("chaos-slow");
        let before = Throttle::time_free_write(&probe)?;
        let throttle = Throttle::create(&name, &disk.device()?)?;
        let slowed = throttle.time_write(&probe)?;
        if let Some(pid) = member.pid() {
            throttle.take(pid)?;
        }
        self.throttle = Some(throttle);
        Ok(witness(before.as_millis(), slowed.as_millis()))
    }

    async fn end(&mut self, _: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        self.throttle = None;
        Ok(None)
    }
}

/// 64 KiB take a quarter of a second at the ceiling, and far less without.
pub(super) fn witness(before_ms: u128, slowed_ms: u128) -> Option<Value> {
    let is_slow = slowed_ms >= 100 && slowed_ms >= 2 * before_ms;
    is_slow.then(|| json!({ "sync_ms_before": before_ms.to_string(), "sync_ms": slowed_ms.to_string() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_as_fast_as_before_is_no_witness() {
        assert!(witness(3, 250).is_some());
        assert!(witness(3, 20).is_none());
        assert!(witness(200, 250).is_none());
    }
}
