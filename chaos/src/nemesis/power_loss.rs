//! Power loss: the disks of one member, a minority or all lose what was not synced, and their members are killed.
//!
//! The disk goes first: what a member says in the moment between is said without one, as on a machine that goes down.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Site;
use super::fault::{Aim, Fault};

pub(super) struct PowerLoss {
    members: Vec<usize>,
}

impl PowerLoss {
    pub(super) fn some(aim: Aim) -> Self {
        Self { members: aim.one_or_minority() }
    }

    pub(super) fn all(aim: Aim) -> Self {
        Self { members: (0..aim.count).collect() }
    }
}

#[async_trait(?Send)]
impl Fault for PowerLoss {
    fn members(&self) -> Vec<usize> {
        self.members.clone()
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        for member in &self.members {
            site.disk(*member)?.cut_power()?;
        }
        for member in &self.members {
            if let Some(member) = site.cluster.members.get_mut(*member) {
                member.kill().await?;
            }
        }
        Ok(None)
    }

    async fn end(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let mut proved = Vec::new();
        for member in &self.members {
            proved.push(site.disk(*member)?.restore_power()?);
        }
        for member in &self.members {
            if let Some(member) = site.cluster.members.get_mut(*member) {
                member.start()?;
            }
        }
        let is_whole = proved.iter().all(|proved| *proved);
        Ok(is_whole.then(|| json!({ "synced": "kept", "unsynced": "lost", "disks": proved.len() })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::Draw;

    #[test]
    fn one_a_minority_and_all_are_hit() {
        let some: Vec<usize> = (0..100)
            .map(|seed| {
                PowerLoss::some(Aim { victim: 1, count: 5, draw: Draw::from_seed(seed) }).members.len()
            })
            .collect();
        assert!(some.contains(&1) && some.contains(&2) && some.iter().all(|size| *size <= 2));
        assert_eq!(PowerLoss::all(Aim { victim: 1, count: 5, draw: Draw::from_seed(1) }).members.len(), 5);
    }
}
