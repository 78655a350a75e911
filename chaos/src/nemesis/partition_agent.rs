//! Partition of agents: packets between hosts of agents and all servers are dropped, and connections stay silent.
//!
//! Now and then it lasts until servers count the nodes as lost and delete what runs on them.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::Site;
use super::fault::{Aim, Fault};
use super::schedule::Draw;
use crate::cluster::{Host, LOST_AFTER, Way};

/// Longer than the pause between two heartbeats of a node, which is 10 s: in this time something is sent for certain.
const LASTS_MIN: Duration = Duration::from_secs(12);
/// After nodes are lost, pods on them stay deleted for a while before somebody can tell their agents.
const LOST_FOR: Duration = Duration::from_secs(8);
/// One of so many partitions lasts that long, and one of so many hits all agents, which ends evictions: servers then think that they are cut off.
const ONE_OF: u64 = 3;

/// One agent from all servers, or all agents.
pub(super) struct PartitionAgent {
    draw: Draw,
    is_long: bool,
    hits_all: bool,
    /// What was cut.
    pairs: Vec<(Host, Host)>,
    agents: Vec<String>,
    counted_before: u64,
}

impl PartitionAgent {
    pub(super) fn new(aim: Aim) -> Self {
        let one_of = |question| aim.draw.choice(question, ONE_OF) == 0;
        let (is_long, hits_all) = (one_of(1), one_of(2));
        let (pairs, agents) = (Vec::new(), Vec::new());
        Self { draw: aim.draw, is_long, hits_all, pairs, agents, counted_before: 0 }
    }
}

/// Returns the pairs that part these agents from every member, both ways.
fn cuts(agents: &[usize], members: usize) -> Vec<(Host, Host)> {
    let both = |agent: usize, member: usize| {
        let (agent, member) = (Host::Agent(agent), Host::Member(member));
        [(agent, member), (member, agent)]
    };
    agents.iter().flat_map(|agent| (0..members).flat_map(move |member| both(*agent, member))).collect()
}

#[async_trait(?Send)]
impl Fault for PartitionAgent {
    /// No member is hit.
    fn members(&self) -> Vec<usize> {
        Vec::new()
    }

    fn plan(&self) -> Value {
        json!({ "agents": if self.hits_all { "all" } else { "one" }, "until_lost": self.is_long })
    }

    fn lasting(&self, usual: Duration) -> Duration {
        usual.max(if self.is_long { LOST_AFTER + LOST_FOR } else { LASTS_MIN })
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let count = site.cluster.agents.len();
        let agents = if self.hits_all { (0..count).collect() } else { vec![self.draw.place(count)] };
        let name = |agent: &usize| site.cluster.agents.get(*agent).map(|agent| agent.name.clone());
        self.agents = agents.iter().filter_map(name).collect();
        self.pairs = cuts(&agents, site.cluster.members.len());
        self.counted_before = site.network.packets_cut(Way::Silent)?;
        site.network.cut(Way::Silent, &self.pairs)?;
        Ok(None)
    }

    async fn end(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let counted = site.network.packets_cut(Way::Silent)?.saturating_sub(self.counted_before);
        site.network.mend(Way::Silent, &self.pairs)?;
        Ok((counted > 0).then(|| json!({ "cut_off": self.agents, "packets_dropped": counted })))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_agent_is_cut_from_every_member_both_ways_and_members_not_from_each_other() {
        let pairs = cuts(&[1], 3);
        assert_eq!(pairs.len(), 6);
        for member in (0..3).map(Host::Member) {
            assert!(pairs.contains(&(Host::Agent(1), member)) && pairs.contains(&(member, Host::Agent(1))));
        }
        assert_eq!(cuts(&[0, 1], 5).len(), 20);
    }

    #[test]
    fn some_are_long_enough_for_a_node_to_be_lost_and_some_hit_all() {
        let drawn: Vec<PartitionAgent> = (0..100)
            .map(|seed| PartitionAgent::new(Aim { victim: 0, count: 3, draw: Draw::from_seed(seed) }))
            .collect();
        let kinds: BTreeSet<(bool, bool)> =
            drawn.iter().map(|fault| (fault.is_long, fault.hits_all)).collect();
        assert_eq!(kinds.len(), 4);
        let usual = Duration::from_secs(3);
        assert!(drawn.iter().all(|fault| (fault.lasting(usual) > LOST_AFTER) == fault.is_long));
    }
}
