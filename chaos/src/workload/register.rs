//! The register workload: reads, writes and compare-and-swap on a few keys at a time.
//!
//! Half of the operations are reads. Values are unique, so that a value read names the write that made it. A key is
//! retired after 200 operations, which bounds the work of checkers that search. The generator is pure: all randomness is the
//! seed. At the end every key is read through every member.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::{Asked, Client, Entry, Nodes, Setup, Tier, Workload};
use crate::history::{Answer, Function};

pub(super) const ENTRY: Entry = Entry {
    name: "register",
    about: "reads, writes and compare-and-swap on a few keys at a time",
    checkers: &["witness", "linearizability"],
    needs_own_store: false,
    tier: Tier::Store,
    nodes: Nodes::Hollow,
    create: |setup| Arc::new(Register { generator: Mutex::new(Generator::new(setup)) }),
};

/// Operations after which a key is retired (Jepsen's number for etcd).
const OPERATIONS_PER_KEY: u32 = 200;
/// Keys in use at a time: few, so that operations meet.
const KEYS_ACTIVE: usize = 5;

struct Register {
    generator: Mutex<Generator>,
}

impl Register {
    fn generator(&self) -> MutexGuard<'_, Generator> {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Workload for Register {
    async fn work(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        // Mod revision of each key as this client has seen it last.
        let mut seen = BTreeMap::new();
        while client.turn().await {
            let planned = self.generator().next_operation();
            operate(&mut client, planned, &mut seen).await?;
        }
        Ok(())
    }

    async fn finish(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        let keys: Vec<String> = self.generator().keys().collect();
        let mut seen = BTreeMap::new();
        for key in keys {
            operate(&mut client, Planned { key, action: Action::Read }, &mut seen).await?;
        }
        Ok(())
    }
}

async fn operate(
    client: &mut Client,
    planned: Planned,
    seen: &mut BTreeMap<String, i64>,
) -> std::io::Result<()> {
    let Planned { key, action } = planned;
    let expected = seen.get(&key).copied().unwrap_or(0);
    let (f, value) = match &action {
        Action::Read => (Function::Read, Value::Null),
        Action::Write { value } => (Function::Write, json!({ "value": value })),
        Action::Cas { value } => (Function::Cas, json!({ "value": value, "expected": expected })),
    };
    let asked = Asked { f, key: Some(key.clone()), value };
    let call = async |member: crate::etcd::MemberClient| match &action {
        Action::Read => member.read(&key).await,
        Action::Write { value } => member.write(&key, value).await,
        Action::Cas { value } => member.cas(&key, expected, value).await,
    };
    if let Ok((answer, revision)) = client.operate(asked, call).await? {
        let mod_revision = match answer {
            Answer::Read(state) | Answer::NotSwapped(state) => state.map_or(0, |state| state.mod_revision),
            Answer::Written | Answer::Swapped => revision,
        };
        seen.insert(key, mod_revision);
    }
    Ok(())
}

/// One operation to do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Planned {
    key: String,
    action: Action,
}

/// What to do with the key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
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
struct Generator {
    prefix: String,
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
    fn new(setup: &Setup) -> Self {
        let random = StdRng::seed_from_u64(setup.seed);
        Self { prefix: setup.prefix.clone(), random, active: Vec::new(), keys: 0, values: 0 }
    }

    /// Draws the next operation.
    fn next_operation(&mut self) -> Planned {
        let key = self.next_key();
        let action = match self.random.random_range(0..4_u8) {
            0 | 1 => Action::Read,
            2 => Action::Write { value: self.next_value() },
            _ => Action::Cas { value: self.next_value() },
        };
        Planned { key, action }
    }

    /// Returns all keys used so far.
    fn keys(&self) -> impl Iterator<Item = String> {
        (0..self.keys).map(|number| self.key(number))
    }

    fn key(&self, number: u64) -> String {
        format!("{}register/{number:05}", self.prefix)
    }

    fn next_key(&mut self) -> String {
        let index = self.random.random_range(0..KEYS_ACTIVE);
        if let Some(slot) = self.active.get_mut(index).filter(|slot| slot.left > 0) {
            slot.left -= 1;
            return slot.key.clone();
        }
        let slot = Slot { key: self.key(self.keys), left: OPERATIONS_PER_KEY - 1 };
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn generator(seed: u64) -> Generator {
        Generator::new(&Setup { seed, prefix: String::new(), members: 3 })
    }

    fn draw(seed: u64, count: usize) -> Vec<Planned> {
        let mut generator = generator(seed);
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
        let mut generator = generator(3);
        let used: BTreeSet<String> = (0..1_000).map(|_| generator.next_operation().key).collect();
        assert_eq!(generator.keys().collect::<BTreeSet<_>>(), used);
    }
}
