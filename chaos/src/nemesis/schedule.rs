//! Which faults a run injects, in which order: pure, from the seed.

use std::fmt;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::history::FaultKind;

/// The kinds of fault that are injected at once: one, or a combination such as `kill+partition`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn(Vec<FaultKind>);

impl Turn {
    /// Combines kinds.
    #[must_use]
    pub fn of(kinds: &[FaultKind]) -> Self {
        Self(kinds.to_vec())
    }

    /// Returns the kinds, in the order in which they begin.
    #[must_use]
    pub fn kinds(&self) -> &[FaultKind] {
        &self.0
    }
}

impl From<FaultKind> for Turn {
    fn from(kind: FaultKind) -> Self {
        Self(vec![kind])
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|kind| kind.name()).collect();
        formatter.write_str(&names.join("+"))
    }
}

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    Leader,
    Drawn,
}

/// One turn to inject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// From 0 on.
    pub number: u32,
    pub turn: Turn,
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

    /// Chooses one of `options`, counted from 0. Questions with different numbers have independent answers.
    #[must_use]
    pub fn choice(self, question: u64, options: u64) -> u64 {
        StdRng::seed_from_u64(self.0 ^ question.wrapping_add(1)).random_range(0..options.max(1))
    }

    /// Chooses one of a list; `None` of an empty one.
    pub(super) fn pick<T>(self, list: &[T]) -> Option<&T> {
        let count = u64::try_from(list.len()).unwrap_or(u64::MAX);
        list.get(usize::try_from(self.choice(0, count)).unwrap_or(0))
    }

    #[cfg(test)]
    pub(super) fn from_seed(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed).random())
    }
}

/// Plans faults: the turns go round, and of each every other one hits the leader, beginning with the first.
#[must_use]
pub fn schedule(seed: u64, turns: &[Turn], count: usize) -> Vec<Planned> {
    // Another stream than the workload's.
    let mut random = StdRng::seed_from_u64(seed ^ 0x6e65_6d65_7369_7321);
    let rounds = (0..).flat_map(|round: u32| turns.iter().map(move |turn| (round, turn)));
    (0..)
        .zip(rounds)
        .take(if turns.is_empty() { 0 } else { count })
        .map(|(number, (round, turn))| {
            let victim = if round % 2 == 0 { Victim::Leader } else { Victim::Drawn };
            Planned { number, turn: turn.clone(), victim, draw: Draw(random.random()) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn schedule(seed: u64, count: usize) -> Vec<Planned> {
        super::schedule(seed, &[FaultKind::Kill.into(), FaultKind::Partition.into()], count)
    }

    #[test]
    fn kinds_take_turns_and_every_other_fault_hits_the_leader() {
        let plan = schedule(1, 8);
        let kills = plan.iter().filter(|planned| planned.turn == FaultKind::Kill.into()).count();
        let leaders = plan.iter().filter(|planned| planned.victim == Victim::Leader).count();
        assert_eq!((plan.len(), kills, leaders), (8, 4, 4));
        assert_eq!((plan[0].victim, plan[1].victim), (Victim::Leader, Victim::Leader));
        assert_ne!(plan[0].turn, plan[1].turn);
        assert_eq!((plan[0].number, plan[7].number), (0, 7));
    }

    #[test]
    fn equal_seeds_give_equal_schedules() {
        assert_eq!(schedule(5, 20), schedule(5, 20));
        assert_ne!(schedule(5, 20), schedule(6, 20));
    }

    #[test]
    fn without_kinds_nothing_is_planned() {
        assert!(super::schedule(1, &[], 9).is_empty());
    }

    #[test]
    fn draws_reach_every_member_and_answer_questions_independently() {
        let plan = schedule(2, 200);
        for place in 0..3 {
            assert!(plan.iter().any(|planned| planned.draw.place(3) == place));
        }
        let answers: BTreeSet<(u64, u64)> =
            plan.iter().map(|planned| (planned.draw.choice(0, 3), planned.draw.choice(1, 3))).collect();
        assert_eq!(answers.len(), 9);
    }
}
