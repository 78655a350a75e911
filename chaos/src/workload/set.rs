//! The set workload: unique elements are added, seldom removed, and read back.
//!
//! Half of the sets are one key for all elements, grown by compare-and-swap; in the others each element is a key. Sets are retired
//! after a number of elements, which bounds what a read shows. Some values are longer than a sector of a disk, so that a power cut in
//! the middle of a write tears them. At the end every set is read through every member.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::values::{Counter, first, read, read_folder, swap, write};
use super::{Client, Entry, Nodes, Setup, Tier, Workload};
use crate::history::{Delete, Request};

pub(super) const ENTRY: Entry = Entry {
    name: "set",
    about: "unique elements are added, seldom removed, and read back",
    checkers: &["set", "witness", "convergence"],
    needs_own_store: false,
    tier: Tier::Store,
    nodes: Nodes::Hollow,
    create: |setup| Arc::new(Set { generator: Mutex::new(Generator::new(setup)) }),
};

/// Elements after which a set is retired.
const ELEMENTS_PER_SET: u32 = 80;
/// How many elements that are a key have a long value, and how long it is: two sectors and more.
const LONG: f64 = 0.25;
const LONG_BYTES: std::ops::Range<usize> = 1000..1500;

struct Set {
    generator: Mutex<Generator>,
}

impl Set {
    fn generator(&self) -> MutexGuard<'_, Generator> {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does one action; a set in one key is grown in two steps.
    async fn perform(&self, client: &mut Client, action: Action) -> std::io::Result<()> {
        match action {
            Action::Put { key, value } => {
                if client.exchange(&write(&key, value)).await?.is_ok() {
                    self.generator().added.push(key);
                }
            }
            Action::Grow { key, element } => {
                if let Ok((answer, _)) = client.exchange(&read(&key)).await? {
                    let (list, seen) = first(&answer).map_or((String::new(), 0), |state| {
                        (format!("{} ", state.value), state.mod_revision)
                    });
                    let _ = client.exchange(&swap(&key, seen, format!("{list}{element}"))).await?;
                }
            }
            Action::Remove { key } => {
                let _ = client.exchange(&Request::Delete(Delete { key, end: None })).await?;
            }
            Action::Read(request) => {
                let _ = client.exchange(&request).await?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Workload for Set {
    async fn work(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        while client.turn().await {
            let action = self.generator().next_action();
            self.perform(&mut client, action).await?;
        }
        Ok(())
    }

    async fn finish(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        let reads = self.generator().final_reads();
        for request in reads {
            self.perform(&mut client, Action::Read(request)).await?;
        }
        Ok(())
    }
}

/// What a client does.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    /// An element that is a key.
    Put {
        key: String,
        value: String,
    },
    /// An element of the list that one key holds.
    Grow {
        key: String,
        element: String,
    },
    Remove {
        key: String,
    },
    Read(Request),
}

/// Draws actions from a seed.
struct Generator {
    prefix: String,
    random: StdRng,
    sets: u32,
    left: u32,
    elements: Counter,
    /// Keys whose adding was acknowledged and that nobody has removed yet.
    added: Vec<String>,
}

impl Generator {
    fn new(setup: &Setup) -> Self {
        let random = StdRng::seed_from_u64(setup.seed);
        let (prefix, elements) = (setup.prefix.clone(), Counter::default());
        Self { prefix, random, sets: 0, left: 0, elements, added: Vec::new() }
    }

    fn next_action(&mut self) -> Action {
        if self.left == 0 {
            self.left = ELEMENTS_PER_SET;
            self.sets += 1;
        }
        match self.random.random_range(0..20_u8) {
            0..=8 => {
                self.left -= 1;
                let element = self.elements.next().to_string();
                let key = format!("{}{element}", self.folder(self.sets));
                Action::Put { key, value: self.value(element) }
            }
            9..=14 => {
                let element = self.elements.next().to_string();
                Action::Grow { key: self.one(self.sets), element }
            }
            15 if !self.added.is_empty() => {
                let position = self.random.random_range(0..self.added.len());
                Action::Remove { key: self.added.swap_remove(position) }
            }
            15..=17 => Action::Read(read_folder(&self.folder(self.sets))),
            _ => Action::Read(read(&self.one(self.sets))),
        }
    }

    /// The value of an element that is a key; the key says all, so a value may be longer.
    fn value(&mut self, element: String) -> String {
        if !self.random.random_bool(LONG) {
            return element;
        }
        let filler = "x".repeat(self.random.random_range(LONG_BYTES));
        format!("{element} {filler}")
    }

    fn final_reads(&self) -> Vec<Request> {
        let sets = 1..=self.sets;
        sets.flat_map(|set| [read_folder(&self.folder(set)), read(&self.one(set))]).collect()
    }

    fn folder(&self, set: u32) -> String {
        format!("{}set/each/{set}/", self.prefix)
    }

    fn one(&self, set: u32) -> String {
        format!("{}set/one/{set}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn elements_are_unique_and_every_set_is_read_at_the_end() {
        let mut generator = Generator::new(&Setup { seed: 2, prefix: "p/".to_owned(), members: 3 });
        let (mut elements, mut sets, mut long) = (BTreeSet::new(), BTreeSet::new(), 0);
        for _ in 0..2000 {
            match generator.next_action() {
                Action::Put { key, value } => {
                    long += usize::from(value.len() >= LONG_BYTES.start);
                    let element = value.split_whitespace().next().unwrap();
                    assert!(elements.insert(element.to_owned()));
                    sets.insert(read_folder(key.strip_suffix(element).unwrap()));
                    generator.added.push(key);
                }
                Action::Grow { key, element } => {
                    assert!(elements.insert(element));
                    sets.insert(read(&key));
                }
                Action::Remove { key } => assert!(!generator.added.contains(&key)),
                Action::Read(_) => {}
            }
        }
        let last: BTreeSet<Request> = generator.final_reads().into_iter().collect();
        assert!(sets.is_subset(&last) && sets.len() > 10);
        assert!((100..400).contains(&long));
    }
}
