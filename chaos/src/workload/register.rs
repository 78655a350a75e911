//! The register workload: reads, writes and compare-and-swap on a few keys at a time.
//!
//! Half of the operations are reads. Values are unique, so that a value read names the write that made it. A key is
//! retired after 200 operations, which bounds the work of checkers that search. Pure: all randomness is the seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Operations after which a key is retired (Jepsen's number for etcd).
const OPERATIONS_PER_KEY: u32 = 200;
/// Keys in use at a time: few, so that operations meet.
const KEYS_ACTIVE: usize = 5;

/// One operation to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub key: String,
    pub action: Action,
}

/// What to do with the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Read,
    Write {
        value: String,
    },
    /// The client expects the mod revision that it has seen last.
    Cas {
        value: String,
    },
}

/// Draws operations from a seed.
pub struct Generator {
    random: StdRng,
    active: Vec<Slot>,
    keys: u64,
    values: u64,
}

struct Slot {
    key: String,
    left: u32,
}

impl Generator {
    /// Returns a generator; equal seeds give equal operations.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), active: Vec::new(), keys: 0, values: 0 }
    }

    /// Draws the next operation.
    pub fn next_operation(&mut self) -> Planned {
        let key = self.next_key();
        let action = match self.random.random_range(0..4_u8) {
            0 | 1 => Action::Read,
            2 => Action::Write { value: self.next_value() },
            _ => Action::Cas { value: self.next_value() },
        };
        Planned { key, action }
    }

    /// Returns all keys used so far.
    pub fn keys(&self) -> impl Iterator<Item = String> + use<> {
        (0..self.keys).map(key_name)
    }

    fn next_key(&mut self) -> String {
        let index = self.random.random_range(0..KEYS_ACTIVE);
        if let Some(slot) = self.active.get_mut(index).filter(|slot| slot.left > 0) {
            slot.left -= 1;
            return slot.key.clone();
        }
        let slot = Slot { key: key_name(self.keys), left: OPERATIONS_PER_KEY - 1 };
        self.keys += 1;
        let key = slot.key.clone();
        match self.active.get_mut(index) {
            Some(retired) => *retired = slot,
            None => self.active.push(slot),
        }
        key
    }

    fn next_value(&mut self) -> String {
        self.values += 1;
        format!("v{}", self.values)
    }
}

fn key_name(number: u64) -> String {
    format!("register/{number:05}")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn draw(seed: u64, count: usize) -> Vec<Planned> {
        let mut generator = Generator::new(seed);
        (0..count).map(|_| generator.next_operation()).collect()
    }

    #[test]
    fn equal_seeds_give_equal_operations() {
        assert_eq!(draw(7, 500), draw(7, 500));
        assert_ne!(draw(7, 500), draw(8, 500));
    }

    #[test]
    fn half_of_the_operations_are_reads_and_values_are_unique() {
        let operations = draw(1, 10_000);
        let mut values = BTreeSet::new();
        let mut reads = 0;
        for operation in &operations {
            match &operation.action {
                Action::Read => reads += 1,
                Action::Write { value } | Action::Cas { value } => assert!(values.insert(value)),
            }
        }
        assert!((4_800..5_200).contains(&reads), "{reads} reads");
    }

    #[test]
    fn a_key_is_retired_after_its_operations() {
        let mut uses: BTreeMap<String, u32> = BTreeMap::new();
        for operation in draw(3, 10_000) {
            *uses.entry(operation.key).or_default() += 1;
        }
        assert_eq!(uses.values().max(), Some(&OPERATIONS_PER_KEY));
        assert!(uses.len() >= 50, "{} keys", uses.len());
    }

    #[test]
    fn all_keys_are_known_for_the_final_reads() {
        let mut generator = Generator::new(3);
        let used: BTreeSet<String> = (0..1_000).map(|_| generator.next_operation().key).collect();
        assert_eq!(generator.keys().collect::<BTreeSet<_>>(), used);
    }
}
