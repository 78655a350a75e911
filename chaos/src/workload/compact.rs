//! The compact workload: history is forgotten all the time, while others write and read what is forgotten, what is just not, and
//! what has not happened yet.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::values::{Counter, folder_end, read_folder, write};
use super::{Client, Entry, Setup, Tier, Workload};
use crate::history::{Delete, Range, Request};

pub(super) const ENTRY: Entry = Entry {
    name: "compact",
    about: "history is compacted all the time, and read below, at and above the compact revision",
    checkers: &["compaction", "witness", "convergence"],
    needs_own_store: true,
    tier: Tier::Store,
    create: |setup| Arc::new(Compacting::new(setup)),
};

const KEYS: u32 = 10;
/// How far behind the newest revision a compaction is, at most.
const COMPACT_DISTANCE: i64 = 60;
/// How far behind and ahead of the newest revision reads are.
const READ_DISTANCE: std::ops::RangeInclusive<i64> = -120..=5;

struct Compacting {
    prefix: String,
    generator: Mutex<Generator>,
    /// The highest revision that anybody was answered.
    newest: AtomicI64,
}

impl Compacting {
    fn new(setup: &Setup) -> Self {
        let generator = Mutex::new(Generator::new(setup));
        Self { prefix: setup.prefix.clone(), generator, newest: AtomicI64::new(0) }
    }

    fn generator(&self) -> MutexGuard<'_, Generator> {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Workload for Compacting {
    async fn work(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        // The last client goes round all members.
        let compacts = client.number() % 4 == 3;
        while client.turn().await {
            let newest = self.newest.load(Ordering::Relaxed);
            if compacts && self.generator().is_time_to_compact() {
                let revision = self.generator().next_compaction(newest);
                let _ = client.compact(revision).await?;
                continue;
            }
            let request = self.generator().next_request(newest);
            if let Ok((_, revision)) = client.exchange(&request).await? {
                self.newest.fetch_max(revision, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    async fn finish(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        let _ = client.exchange(&read_folder(&format!("{}compact/", self.prefix))).await?;
        Ok(())
    }
}

/// Draws requests from a seed.
struct Generator {
    prefix: String,
    random: StdRng,
    values: Counter,
}

impl Generator {
    fn new(setup: &Setup) -> Self {
        let random = StdRng::seed_from_u64(setup.seed);
        Self { prefix: setup.prefix.clone(), random, values: Counter::default() }
    }

    fn is_time_to_compact(&mut self) -> bool {
        self.random.random_bool(0.2)
    }

    fn next_compaction(&mut self, newest: i64) -> i64 {
        // Seldom what has not happened yet.
        if self.random.random_bool(0.05) {
            return newest + self.random.random_range(1_000_000..2_000_000);
        }
        (newest - self.random.random_range(0..=COMPACT_DISTANCE)).max(1)
    }

    fn next_request(&mut self, newest: i64) -> Request {
        let number = self.random.random_range(0..KEYS);
        let folder = format!("{}compact/", self.prefix);
        let key = format!("{folder}{number}");
        match self.random.random_range(0..10_u8) {
            0..=3 => write(&key, self.values.next().to_string()),
            4 => Request::Delete(Delete { key, end: None }),
            5 => Request::Range(Range { key, ..Range::default() }),
            _ => {
                let distance = self.random.random_range(READ_DISTANCE);
                let revision = (newest + distance).max(1);
                let (key, end) = if self.random.random_bool(0.5) {
                    (key, None)
                } else {
                    (folder.clone(), Some(folder_end(&folder)))
                };
                Request::Range(Range { key, end, revision, serializable: false })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_below_at_and_above_the_newest_revision() {
        let mut generator = Generator::new(&Setup { seed: 1, prefix: String::new(), members: 3 });
        let revisions: Vec<i64> = (0..1000)
            .filter_map(|_| match generator.next_request(1000) {
                Request::Range(range) if range.revision > 0 => Some(range.revision),
                _ => None,
            })
            .collect();
        assert!(revisions.iter().any(|revision| *revision < 940));
        assert!(revisions.contains(&1000) && revisions.iter().any(|revision| *revision > 1000));
        let compactions: Vec<i64> = (0..100).map(|_| generator.next_compaction(1000)).collect();
        assert!(compactions.iter().any(|revision| *revision > 1000));
        assert!(compactions.iter().filter(|revision| **revision <= 1000).count() > 80);
    }
}
