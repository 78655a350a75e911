//! Slow link: one member's link carries few bytes a second each way; what waits too long is dropped.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Site;
use super::fault::{Aim, Fault};
use crate::cluster::Network;

pub(super) struct SlowLink {
    member: usize,
}

impl SlowLink {
    pub(super) fn new(aim: Aim) -> Self {
        Self { member: aim.victim }
    }
}

#[async_trait(?Send)]
impl Fault for SlowLink {
    fn members(&self) -> Vec<usize> {
        vec![self.member]
    }

    fn plan(&self) -> Value {
        json!({ "rate": Network::NARROW_RATE })
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        site.network.narrow(self.member)?;
        Ok(None)
    }

    async fn end(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        // All that came went through it. How much had to wait is told as well, but a member that hardly speaks for a second, as where
        // nobody leads, has nothing that waits.
        let (carried, held) =
            (site.network.packets_carried(self.member)?, site.network.packets_held(self.member)?);
        site.network.widen(self.member)?;
        Ok((carried > 0).then(|| json!({ "packets_carried": carried, "packets_held_back": held })))
    }
}
