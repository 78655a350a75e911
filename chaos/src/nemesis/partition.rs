//! Partition: packets between members are dropped on the bridge. Connections stay silent, as with a broken network, and
//! clients still reach every member.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::{Injected, Nemesis};
use crate::history::{EventKind, Function};

/// How a partition cuts around its victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// The victim from all others.
    Isolate,
    /// The largest minority that the victim belongs to, from the rest.
    Minority,
    /// What the victim sends is lost.
    Outbound,
    /// What the victim should receive is lost.
    Inbound,
}

/// Returns the pairs (from, to) that a partition cuts among `count` members.
#[must_use]
pub fn cuts(shape: Shape, victim: usize, count: usize) -> Vec<(usize, usize)> {
    let side_size = match shape {
        Shape::Minority => (count.saturating_sub(1) / 2).max(1),
        Shape::Isolate | Shape::Outbound | Shape::Inbound => 1,
    };
    let side: Vec<usize> = (0..side_size).map(|step| (victim + step) % count.max(1)).collect();
    let rest: Vec<usize> = (0..count).filter(|member| !side.contains(member)).collect();
    let outbound = side.iter().flat_map(|from| rest.iter().map(move |to| (*from, *to)));
    let inbound = rest.iter().flat_map(|from| side.iter().map(move |to| (*from, *to)));
    match shape {
        Shape::Isolate | Shape::Minority => outbound.chain(inbound).collect(),
        Shape::Outbound => outbound.collect(),
        Shape::Inbound => inbound.collect(),
    }
}

impl Nemesis<'_> {
    pub(super) async fn partition(
        &mut self,
        shape: Shape,
        victim: usize,
        leader: Option<usize>,
        lasting: Duration,
    ) -> anyhow::Result<Injected> {
        let pairs = cuts(shape, victim, self.cluster.members.len());
        let node = self.name(Some(victim));
        let leader_before = self.name(leader);
        let is_leader = leader == Some(victim);
        let named: Vec<_> =
            pairs.iter().map(|(from, to)| (self.name(Some(*from)), self.name(Some(*to)))).collect();
        let value = json!({ "leader_before": leader_before, "shape": shape, "cut": named });
        self.record(EventKind::Invoke, Function::Partition, node.clone(), value)?;
        let before = self.network.packets_dropped()?;
        self.network.cut(&pairs)?;
        tokio::time::sleep(lasting).await;
        let leader_after = self.name(self.cluster.leader().await);
        let dropped = self.network.packets_dropped()?.saturating_sub(before);
        self.network.heal()?;
        let witness = (dropped > 0).then(|| json!({ "packets_dropped": dropped }));
        let value = json!({
            "leader_before": leader_before, "leader_after": leader_after, "hit_leader": is_leader,
            "shape": shape, "witness": witness,
        });
        self.record(EventKind::Info, Function::Partition, node.clone(), value)?;
        self.record(EventKind::Info, Function::Heal, node.clone(), json!(null))?;
        let role = if is_leader { "the leader" } else { "a follower" };
        let (node, after) = (node.unwrap_or_default(), leader_after.unwrap_or_else(|| "nobody".to_owned()));
        let witnessed = if dropped > 0 {
            format!("{dropped} packets dropped")
        } else {
            "NO WITNESS: no packet was dropped".to_owned()
        };
        Ok(Injected {
            line: format!("partition {shape:?} {node} ({role}): {witnessed}; {after} led; healed"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn isolation_cuts_both_ways() {
        assert_eq!(cuts(Shape::Isolate, 1, 3), [(1, 0), (1, 2), (0, 1), (2, 1)]);
        assert_eq!(cuts(Shape::Minority, 1, 3), cuts(Shape::Isolate, 1, 3));
    }

    #[test]
    fn one_way_cuts_leave_the_other_direction() {
        assert_eq!(cuts(Shape::Outbound, 0, 3), [(0, 1), (0, 2)]);
        assert_eq!(cuts(Shape::Inbound, 0, 3), [(1, 0), (2, 0)]);
    }

    #[test]
    fn a_minority_of_five_is_two_and_wraps_around() {
        let pairs = cuts(Shape::Minority, 4, 5);
        assert_eq!(pairs.len(), 12);
        assert!(pairs.contains(&(0, 1)) && pairs.contains(&(4, 1)) && !pairs.contains(&(4, 0)));
    }

    #[test]
    fn one_member_has_nobody_to_be_cut_from() {
        assert!(cuts(Shape::Isolate, 0, 1).is_empty());
    }
}
