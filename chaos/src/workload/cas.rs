//! The cas workload: clients count up a few numbers by compare-and-swap, all at the same time.
//!
//! A client reads a number and writes the next one on condition that nobody has written meanwhile. The value carries a unique tag
//! behind the number. At the end every number is read through every member.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::values::{Counter, first, read, swap};
use super::{Client, Entry, Nodes, Setup, Tier, Workload};
use crate::check::counter::number;

pub(super) const ENTRY: Entry = Entry {
    name: "cas",
    about: "numbers are counted up by compare-and-swap",
    checkers: &["counter", "witness", "convergence"],
    needs_own_store: false,
    tier: Tier::Store,
    nodes: Nodes::Hollow,
    create: |setup| Arc::new(Cas { generator: Mutex::new(Generator::new(setup)) }),
};

struct Cas {
    generator: Mutex<Generator>,
}

impl Cas {
    fn generator(&self) -> MutexGuard<'_, Generator> {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Workload for Cas {
    async fn work(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        while client.turn().await {
            let (key, tag) = self.generator().next_increment();
            if let Ok((answer, _)) = client.exchange(&read(&key)).await? {
                let (count, seen) =
                    first(&answer).map_or((0, 0), |state| (number(&state.value), state.mod_revision));
                let _ = client.exchange(&swap(&key, seen, format!("{} {tag}", count + 1))).await?;
            }
        }
        Ok(())
    }

    async fn finish(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        let keys = self.generator().keys();
        for key in keys {
            let _ = client.exchange(&read(&key)).await?;
        }
        Ok(())
    }
}

/// Draws which number is next from a seed.
struct Generator {
    prefix: String,
    random: StdRng,
    numbers: u32,
    tags: Counter,
}

impl Generator {
    fn new(setup: &Setup) -> Self {
        let mut random = StdRng::seed_from_u64(setup.seed);
        let numbers = random.random_range(1..=5);
        Self { prefix: setup.prefix.clone(), random, numbers, tags: Counter::default() }
    }

    fn next_increment(&mut self) -> (String, u64) {
        let number = self.random.random_range(0..self.numbers);
        (self.key(number), self.tags.next())
    }

    fn keys(&self) -> Vec<String> {
        (0..self.numbers).map(|number| self.key(number)).collect()
    }

    fn key(&self, number: u32) -> String {
        format!("{}counter/{number}", self.prefix)
    }
}
