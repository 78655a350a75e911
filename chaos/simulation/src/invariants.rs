//! What must hold at every moment, as members show it from inside.
//!
//! At most one leader in a term, and nothing goes backwards: what is committed stays in each log that holds it. A majority remembers
//! the term of every leader, because it voted for it, and holds every committed entry, because it acknowledged it: whatever crashed
//! meanwhile (Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", 2014, sections 5.2 and 5.4).

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use chaos::check::Violation;
use store::admin::Admin;
use store::kv::Kv;

use crate::machine::Machine;
use crate::world::World;

/// Violations kept; the first one says most.
const VIOLATIONS_MAX: usize = 20;

/// Looks at all members between steps.
#[derive(Default)]
pub(crate) struct Invariants {
    /// Who leads in each term.
    leaders: BTreeMap<u64, u64>,
    seen: BTreeMap<usize, Seen>,
    /// Highest term in which somebody led.
    led: u64,
    /// Highest index that somebody called committed.
    committed: u64,
    /// Of everything that was seen: two runs of a seed must see the same.
    hasher: DefaultHasher,
    pub(crate) looks: u64,
    pub(crate) leader_changes: u64,
    pub(crate) violations: Vec<Violation>,
}

/// What a member showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Seen {
    /// Which process of the machine.
    start: u64,
    member: u64,
    leader: u64,
    term: u64,
    committed: u64,
    applied: u64,
    last: u64,
    revision: i64,
    compact_revision: i64,
}

impl Invariants {
    /// Checks every member that runs.
    pub(crate) fn look(&mut self, world: &World) {
        self.looks += 1;
        let mut running = Vec::new();
        for machine in &world.machines {
            let Some(now) = look_at(machine) else { continue };
            now.hash(&mut self.hasher);
            self.one_leader(machine, now);
            if let Some(before) = self.seen.insert(machine.number, now) {
                self.nothing_goes_back(machine, before, now);
            }
            self.check(machine, now.applied <= now.committed, "applied before committed", now);
            self.check(machine, now.compact_revision <= now.revision, "compacted beyond its revision", now);
            running.push(now);
        }
        // With another set of voters it is another majority.
        if !world.has_replacement {
            self.majority_remembers(world.plan.voters, &running);
        }
    }

    /// Who does not run may remember everything; of those that run, only a minority may know less.
    fn majority_remembers(&mut self, voters: usize, running: &[Seen]) {
        let minority = voters - (voters / 2 + 1);
        let led = running.iter().filter(|seen| seen.leader == seen.member).map(|seen| seen.term).max();
        self.led = self.led.max(led.unwrap_or(0));
        let committed = running.iter().map(|seen| seen.committed).max();
        self.committed = self.committed.max(committed.unwrap_or(0));
        let (led, committed) = (self.led, self.committed);
        let forgot = running.iter().filter(|seen| seen.term < led).count();
        let lacks = running.iter().filter(|seen| seen.last < committed).count();
        for (holds, rule, what) in [
            (forgot <= minority, "a majority forgot an election", format!("term {led}")),
            (lacks <= minority, "a majority lacks a committed entry", format!("index {committed}")),
        ] {
            if !holds && self.violations.len() < VIOLATIONS_MAX {
                let sentence = format!("{what}, and members show {running:?}");
                self.violations.push(Violation { rule, sentence, operations: Vec::new() });
            }
        }
    }

    /// Returns the hash of all that was seen.
    pub(crate) fn trace(&self) -> u64 {
        self.hasher.finish()
    }

    /// Election safety.
    fn one_leader(&mut self, machine: &Machine, now: Seen) {
        if now.leader != now.member {
            return;
        }
        let first = *self.leaders.entry(now.term).or_insert_with(|| {
            self.leader_changes += 1;
            now.member
        });
        self.check(machine, first == now.member, "two leaders in one term", now);
    }

    fn nothing_goes_back(&mut self, machine: &Machine, before: Seen, now: Seen) {
        // A new process may begin behind: what it shows is known before it is durable, and before anybody is told.
        if now.start == before.start {
            self.check(machine, now.term >= before.term, "the term went back", now);
            self.check(machine, now.committed >= before.committed, "the committed index went back", now);
            self.check(machine, now.applied >= before.applied, "the applied index went back", now);
            self.check(machine, now.revision >= before.revision, "the revision went back", now);
            // It may hear that entries are committed before it shows that it has them.
            let held = before.committed.min(before.last);
            self.check(machine, now.last >= held, "a committed entry was truncated", now);
        }
    }

    fn check(&mut self, machine: &Machine, holds: bool, rule: &'static str, now: Seen) {
        if !holds && self.violations.len() < VIOLATIONS_MAX {
            let sentence = format!("{} shows {now:?}", machine.name);
            self.violations.push(Violation { rule, sentence, operations: Vec::new() });
        }
    }
}

fn look_at(machine: &Machine) -> Option<Seen> {
    let member = machine.member()?;
    let (status, numbers) = (member.status(), member.numbers());
    Some(Seen {
        start: machine.starts.load(std::sync::atomic::Ordering::Relaxed),
        member: status.member_id,
        leader: status.leader_id,
        term: status.term,
        committed: numbers.committed_index,
        applied: status.applied_index,
        last: numbers.last_log_index,
        revision: status.revision.0,
        compact_revision: status.compact_revision.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(member: u64, term: u64, last: u64) -> Seen {
        Seen { member, term, last, ..Seen::default() }
    }

    fn leads(of: Seen, committed: u64) -> Seen {
        Seen { leader: of.member, committed, ..of }
    }

    /// The rules that are broken when members of three show these, one look after the other.
    fn broken(looks: &[&[Seen]]) -> Vec<&'static str> {
        let mut invariants = Invariants::default();
        looks.iter().for_each(|running| invariants.majority_remembers(3, running));
        invariants.violations.iter().map(|violation| violation.rule).collect()
    }

    #[test]
    fn a_committed_entry_that_leaves_a_log_is_found() {
        let machine = Machine::new(0, 1);
        let shows = |committed, last| Seen { committed, last, ..Seen::default() };
        let broken = |before, now| {
            let mut invariants = Invariants::default();
            invariants.nothing_goes_back(&machine, before, now);
            invariants.violations.iter().map(|violation| violation.rule).collect::<Vec<_>>()
        };
        assert!(broken(shows(7, 9), shows(7, 7)).is_empty(), "8 and 9 were not committed");
        assert!(broken(shows(9, 7), shows(9, 7)).is_empty(), "it does not show yet what it has");
        assert_eq!(broken(shows(7, 9), shows(7, 6)), ["a committed entry was truncated"]);
    }

    #[test]
    fn an_election_that_a_majority_has_forgotten_is_found() {
        let led = [leads(seen(1, 5, 9), 0), seen(2, 5, 9), seen(3, 4, 9)];
        let one_forgot = [seen(1, 5, 9), seen(2, 4, 9)];
        let two_forgot = [seen(1, 4, 9), seen(2, 4, 9)];
        assert!(broken(&[&led, &one_forgot]).is_empty());
        assert_eq!(broken(&[&led, &two_forgot]), ["a majority forgot an election"]);
    }

    #[test]
    fn a_committed_entry_that_a_majority_lacks_is_found() {
        let committed = [leads(seen(1, 5, 9), 9), seen(2, 5, 9), seen(3, 5, 7)];
        let one_is_down = [seen(1, 5, 9), seen(3, 5, 7)];
        let lost = [seen(2, 5, 8), seen(3, 5, 7)];
        assert!(broken(&[&committed, &one_is_down]).is_empty());
        assert_eq!(broken(&[&committed, &lost]), ["a majority lacks a committed entry"]);
    }
}
