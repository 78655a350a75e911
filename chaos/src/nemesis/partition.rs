//! Partitions: packets are dropped on the bridge, and connections stay silent, as with a broken network; or they are answered
//! with a reset, as by a host without the service: clients and members take other paths then.

use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Value, json};

use super::Site;
use super::fault::{Aim, Fault};
use crate::cluster::{Host, Way};

/// How a partition cuts around its victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// The victim from all others.
    Isolate,
    /// The largest minority that the victim belongs to, from the rest.
    Minority,
    /// What the victim sends is lost.
    Outbound,
    /// What the victim should receive is lost.
    Inbound,
    /// The others fall apart into two halves; the victim hears both.
    Bridge,
    /// Everybody hears a majority, and everybody another one. Of three members, each hears only the one before it.
    MajoritiesRing,
    /// One link, between the victim and one other.
    Link,
}

const SHAPES: [Shape; 7] = [
    Shape::Outbound,
    Shape::Inbound,
    Shape::Minority,
    Shape::Isolate,
    Shape::Bridge,
    Shape::MajoritiesRing,
    Shape::Link,
];

/// Returns the pairs (from, to) that a partition cuts among `count` members.
#[must_use]
pub fn cuts(shape: Shape, victim: usize, count: usize) -> Vec<(usize, usize)> {
    let around = |step: usize| (victim + step) % count.max(1);
    let side = |size: usize| -> Vec<usize> { (0..size.min(count)).map(around).collect() };
    match shape {
        Shape::Isolate => between(&side(1), &rest(&side(1), count)),
        Shape::Minority => {
            let minority = side((count.saturating_sub(1) / 2).max(1));
            between(&minority, &rest(&minority, count))
        }
        Shape::Outbound => one_way(&side(1), &rest(&side(1), count)),
        Shape::Inbound => one_way(&rest(&side(1), count), &side(1)),
        Shape::Bridge => {
            let others: Vec<usize> = (1..count).map(around).collect();
            let (left, right) = others.split_at(others.len() / 2);
            between(left, right)
        }
        Shape::MajoritiesRing => ring(count),
        Shape::Link => between(&side(1), &(1..count.min(2)).map(around).collect::<Vec<_>>()),
    }
}

fn rest(side: &[usize], count: usize) -> Vec<usize> {
    (0..count).filter(|member| !side.contains(member)).collect()
}

fn one_way(from: &[usize], to: &[usize]) -> Vec<(usize, usize)> {
    from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to))).collect()
}

fn between(left: &[usize], right: &[usize]) -> Vec<(usize, usize)> {
    [one_way(left, right), one_way(right, left)].concat()
}

fn ring(count: usize) -> Vec<(usize, usize)> {
    let all: Vec<usize> = (0..count).collect();
    let pairs = one_way(&all, &all).into_iter().filter(|(from, to)| from != to);
    if count == 3 {
        return pairs.filter(|(from, to)| (from + 1) % count != *to).collect();
    }
    // A majority are the member itself and as many neighbours on either side.
    let reach = (count / 2).div_ceil(2);
    pairs.filter(|(from, to)| from.abs_diff(*to).min(count - from.abs_diff(*to)) > reach).collect()
}

/// A partition of one of the three families.
pub(super) struct Partition {
    victim: usize,
    plan: Value,
    pairs: Vec<(Host, Host)>,
    way: Way,
    counted_before: u64,
}

impl Partition {
    /// Members from members, silently.
    pub(super) fn of_members(aim: Aim) -> Self {
        let shape = *aim.draw.pick(&SHAPES).unwrap_or(&Shape::Isolate);
        let pairs = cuts(shape, aim.victim, aim.count);
        Self::new(aim, json!({ "shape": shape }), pairs, Way::Silent)
    }

    /// Members from members, with a reset for whoever tries.
    pub(super) fn refusing(aim: Aim) -> Self {
        let pairs = cuts(Shape::Isolate, aim.victim, aim.count);
        Self::new(aim, Value::Null, pairs, Way::Reset)
    }

    /// One member from all clients; members hear each other.
    pub(super) fn of_clients(aim: Aim) -> Self {
        let (client, member) = (Host::Clients, Host::Member(aim.victim));
        let (direction, pairs) = match aim.draw.choice(0, 3) {
            0 => ("inbound", vec![(client, member)]),
            1 => ("outbound", vec![(member, client)]),
            _ => ("both", vec![(client, member), (member, client)]),
        };
        let plan = json!({ "direction": direction });
        Self { victim: aim.victim, plan, pairs, way: Way::Silent, counted_before: 0 }
    }

    fn new(aim: Aim, plan: Value, pairs: Vec<(usize, usize)>, way: Way) -> Self {
        let pairs = pairs.into_iter().map(|(from, to)| (Host::Member(from), Host::Member(to))).collect();
        Self { victim: aim.victim, plan, pairs, way, counted_before: 0 }
    }
}

#[async_trait(?Send)]
impl Fault for Partition {
    fn members(&self) -> Vec<usize> {
        vec![self.victim]
    }

    fn plan(&self) -> Value {
        self.plan.clone()
    }

    async fn begin(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        self.counted_before = site.network.packets_cut(self.way)?;
        site.network.cut(self.way, &self.pairs)?;
        Ok(None)
    }

    async fn end(&mut self, site: &mut Site<'_>) -> anyhow::Result<Option<Value>> {
        let counted = site.network.packets_cut(self.way)?.saturating_sub(self.counted_before);
        site.network.mend(self.way, &self.pairs)?;
        let name = match self.way {
            Way::Silent => "packets_dropped",
            Way::Reset => "packets_refused",
        };
        Ok((counted > 0).then(|| json!({ name: counted })))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::nemesis::Draw;

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
    fn the_bridge_hears_both_halves_and_they_do_not_hear_each_other() {
        assert_eq!(cuts(Shape::Bridge, 0, 3), [(1, 2), (2, 1)]);
        let pairs = cuts(Shape::Bridge, 1, 5);
        assert_eq!(pairs.len(), 8);
        assert!(pairs.iter().all(|(from, to)| *from != 1 && *to != 1));
    }

    #[test]
    fn in_a_ring_everybody_hears_a_majority_of_its_own() {
        for count in [4, 5, 7, 9] {
            let cut = cuts(Shape::MajoritiesRing, 0, count);
            let heard = |member: usize| -> BTreeSet<usize> {
                (0..count).filter(|other| !cut.contains(&(*other, member))).collect()
            };
            let views: BTreeSet<BTreeSet<usize>> = (0..count).map(heard).collect();
            assert_eq!(views.len(), count);
            assert!(views.iter().all(|view| view.len() > count / 2), "{count}: {views:?}");
        }
        assert_eq!(cuts(Shape::MajoritiesRing, 2, 3), [(0, 2), (1, 0), (2, 1)]);
    }

    #[test]
    fn a_link_is_cut_both_ways() {
        assert_eq!(cuts(Shape::Link, 4, 5), [(4, 0), (0, 4)]);
    }

    #[test]
    fn one_member_has_nobody_to_be_cut_from() {
        for shape in SHAPES {
            assert!(cuts(shape, 0, 1).is_empty(), "{shape:?}");
        }
    }

    #[test]
    fn every_shape_and_direction_is_drawn() {
        let plans = |make: fn(Aim) -> Partition| -> BTreeSet<String> {
            (0..200)
                .map(|seed| make(Aim { victim: 1, count: 3, draw: Draw::from_seed(seed) }).plan.to_string())
                .collect()
        };
        assert_eq!(plans(Partition::of_members).len(), SHAPES.len());
        assert_eq!(plans(Partition::of_clients).len(), 3);
    }
}
