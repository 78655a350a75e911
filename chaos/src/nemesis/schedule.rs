//! Which faults a run injects, in which order: pure, from the seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::Shape;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// SIGKILL, then start again on the same data.
    Kill,
    /// Packets between members are dropped.
    Partition,
}

impl Kind {
    /// Returns its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Partition => "partition",
        }
    }
}

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    Leader,
    Drawn,
}

/// One fault to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    pub kind: Kind,
    pub victim: Victim,
    pub draw: Draw,
}

/// A number that was drawn when the schedule was made, for choices that depend on the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw(u64);

impl Draw {
    /// Chooses one of `count` members.
    #[must_use]
    pub fn place(self, count: usize) -> usize {
        let count = u64::try_from(count).unwrap_or(1).max(1);
        usize::try_from(self.0 % count).unwrap_or(0)
    }

    /// Chooses the shape of a partition, by other digits than the place.
    #[must_use]
    pub fn shape(self) -> Shape {
        match (self.0 >> 32) % 4 {
            0 => Shape::Outbound,
            1 => Shape::Inbound,
            2 => Shape::Minority,
            _ => Shape::Isolate,
        }
    }
}

/// Plans faults: the kinds take turns, and of each kind every other one hits the leader, beginning with the first.
#[must_use]
pub fn schedule(seed: u64, kinds: &[Kind], count: usize) -> Vec<Planned> {
    // Another stream than the workload's.
    let mut random = StdRng::seed_from_u64(seed ^ 0x6e65_6d65_7369_7321);
    let turns = (0..).flat_map(|round: u32| kinds.iter().map(move |kind| (round, *kind)));
    turns
        .take(if kinds.is_empty() { 0 } else { count })
        .map(|(round, kind)| {
            let victim = if round % 2 == 0 { Victim::Leader } else { Victim::Drawn };
            Planned { kind, victim, draw: Draw(random.random()) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Kind; 2] = [Kind::Kill, Kind::Partition];

    #[test]
    fn kinds_take_turns_and_every_other_fault_hits_the_leader() {
        let plan = schedule(1, &BOTH, 8);
        let kills = plan.iter().filter(|planned| planned.kind == Kind::Kill).count();
        let leaders = plan.iter().filter(|planned| planned.victim == Victim::Leader).count();
        assert_eq!((plan.len(), kills, leaders), (8, 4, 4));
        assert_eq!((plan[0].victim, plan[1].victim), (Victim::Leader, Victim::Leader));
        assert_ne!(plan[0].kind, plan[1].kind);
    }

    #[test]
    fn equal_seeds_give_equal_schedules() {
        assert_eq!(schedule(5, &BOTH, 20), schedule(5, &BOTH, 20));
        assert_ne!(schedule(5, &BOTH, 20), schedule(6, &BOTH, 20));
    }

    #[test]
    fn without_kinds_nothing_is_planned() {
        assert!(schedule(1, &[], 9).is_empty());
    }

    #[test]
    fn draws_reach_every_member_and_every_shape() {
        let plan = schedule(2, &BOTH, 200);
        for place in 0..3 {
            assert!(plan.iter().any(|planned| planned.draw.place(3) == place));
        }
        for shape in [Shape::Isolate, Shape::Minority, Shape::Outbound, Shape::Inbound] {
            assert!(plan.iter().any(|planned| planned.draw.shape() == shape));
        }
    }
}
