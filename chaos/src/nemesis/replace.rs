//! Replacement under load: one member is removed, its data wiped, and a new one put in its place.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Site;
use super::fault::{Aim, Fault};
use crate::cluster::Replaced;

/// A new member takes over the whole state before it votes.
const VOTE_TIMEOUT: Duration = Duration::from_secs(30);
const VOTE_POLL: Duration = Duration::from_millis(200);

pub(super) struct Replace {
    member: usize,
    replaced: Option<Replaced>,
}

impl Replace {
    pub(super) fn new(aim: Aim) -> Self {
        Self { member: aim.victim, replaced: None }
    }
}

#[async_trait(?Send)]
impl Fault for Replace {
    fn members(&self) -> Vec<usize> {
        vec![self.member]
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        self.replaced = Some(site.cluster.replace(self.member).await?);
        Ok(None)
    }

    async fn end(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let Some(Replaced { old, new }) = self.replaced else { return Ok(None) };
        let began = Instant::now();
        while !site.cluster.votes(self.member, new).await {
            if began.elapsed() > VOTE_TIMEOUT {
                return Ok(None);
            }
            tokio::time::sleep(VOTE_POLL).await;
        }
        Ok(Some(json!({ "old_id": format!("{old:x}"), "new_id": format!("{new:x}"), "votes": true })))
    }
}
