//! The snapshot workload: members' states are saved as files under load.
//!
//! When the run is over, some of the files are restored as clusters of their own, which must hold what the store held then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::values::{Counter, read, read_folder, write};
use super::{Client, Entry, Nodes, Setup, Tier, Workload};
use crate::history::{Delete, Request, Txn};

pub(super) const ENTRY: Entry = Entry {
    name: "snapshot",
    about: "snapshots are saved under load, and restored at the end",
    checkers: &["snapshot", "witness", "convergence"],
    needs_own_store: true,
    tier: Tier::Store,
    nodes: Nodes::Hollow,
    create: |setup| Arc::new(Snapshots::new(setup)),
};

const KEYS: u32 = 30;
/// A client that saves does so at the tenth of so many turns: a short run has saved something, too.
const TURNS_PER_SNAPSHOT: u64 = 50;
const TURN_OF_SNAPSHOT: u64 = 10;

struct Snapshots {
    prefix: String,
    generator: Mutex<Generator>,
}

impl Snapshots {
    fn new(setup: &Setup) -> Self {
        Self { prefix: setup.prefix.clone(), generator: Mutex::new(Generator::new(setup)) }
    }

    fn generator(&self) -> MutexGuard<'_, Generator> {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Workload for Snapshots {
    async fn work(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        let saves = client.number() % 4 == 3;
        while client.turn().await {
            let number = if saves { self.generator().next_snapshot() } else { None };
            match number {
                Some(number) => client.save_snapshot(&format!("{number:04}.db")).await?,
                None => {
                    let request = self.generator().next_request();
                    let _ = client.exchange(&request).await?;
                }
            }
        }
        Ok(())
    }

    async fn finish(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        let _ = client.exchange(&read_folder(&format!("{}snapshot/", self.prefix))).await?;
        Ok(())
    }
}

/// Draws requests from a seed.
struct Generator {
    prefix: String,
    random: StdRng,
    values: Counter,
    turns: Counter,
    snapshots: Counter,
}

impl Generator {
    fn new(setup: &Setup) -> Self {
        let random = StdRng::seed_from_u64(setup.seed);
        let (values, turns, snapshots) = (Counter::default(), Counter::default(), Counter::default());
        Self { prefix: setup.prefix.clone(), random, values, turns, snapshots }
    }

    /// The number of the next snapshot, if it is time for one.
    fn next_snapshot(&mut self) -> Option<u64> {
        (self.turns.next() % TURNS_PER_SNAPSHOT == TURN_OF_SNAPSHOT).then(|| self.snapshots.next())
    }

    fn next_request(&mut self) -> Request {
        let first = self.random.random_range(0..KEYS - 1);
        let key = |number: u32| format!("{}snapshot/{number:02}", self.prefix);
        let (key, next) = (key(first), key(first + 1));
        match self.random.random_range(0..10_u8) {
            0..=4 => write(&key, self.values.next().to_string()),
            5 => Request::Delete(Delete { key, end: None }),
            // Two keys at once: a snapshot holds both or none.
            6 | 7 => {
                let value = self.values.next().to_string();
                let then = vec![write(&key, value.clone()), write(&next, value)];
                Request::Txn(Txn { then, ..Txn::default() })
            }
            _ => read(&key),
        }
    }
}
