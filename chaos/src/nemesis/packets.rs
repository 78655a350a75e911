//! Packets of members that get lost or come twice, by chance.

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Site;
use super::fault::{Aim, Fault};
use crate::cluster::Disturbance;

pub(super) struct Packets {
    disturbance: Disturbance,
    members: Vec<usize>,
    counted_before: u64,
}

impl Packets {
    /// Of one member or of all, packets are lost on both ways.
    pub(super) fn lost(aim: Aim) -> Self {
        Self::new(Disturbance::Loss, aim)
    }

    /// What one member or all of them send to others comes twice.
    pub(super) fn doubled(aim: Aim) -> Self {
        Self::new(Disturbance::Duplication, aim)
    }

    fn new(disturbance: Disturbance, aim: Aim) -> Self {
        let members = if aim.draw.choice(0, 2) == 0 { vec![aim.victim] } else { (0..aim.count).collect() };
        Self { disturbance, members, counted_before: 0 }
    }
}

#[async_trait(?Send)]
impl Fault for Packets {
    fn members(&self) -> Vec<usize> {
        self.members.clone()
    }

    fn plan(&self) -> Value {
        json!({ "percent": Disturbance::PERCENT })
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        self.counted_before = site.network.packets_disturbed(self.disturbance)?;
        site.network.disturb(self.disturbance, &self.members)?;
        Ok(None)
    }

    async fn end(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let counted = site.network.packets_disturbed(self.disturbance)?.saturating_sub(self.counted_before);
        site.network.calm(self.disturbance)?;
        let name = match self.disturbance {
            Disturbance::Loss => "packets_lost",
            Disturbance::Duplication => "packets_doubled",
        };
        Ok((counted > 0).then(|| json!({ name: counted })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::Draw;

    #[test]
    fn one_and_all_are_drawn() {
        let sizes: std::collections::BTreeSet<usize> = (0..50)
            .map(|seed| Packets::lost(Aim { victim: 2, count: 5, draw: Draw::from_seed(seed) }).members.len())
            .collect();
        assert_eq!(sizes.into_iter().collect::<Vec<_>>(), [1, 5]);
    }
}
