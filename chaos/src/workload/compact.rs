//! The compact workload: history is forgotten all the time, while others write, read and watch what is forgotten, what is just not,
//! and what has not happened yet.
//!
//! A compaction goes where somebody has just deleted, half of the time: that a key was deleted at the compact revision is the first
//! thing a store forgets that forgets too much, and a watch from there still shows it. Reads of the past also come inside of
//! transactions that write, where every member must say the same of them.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::values::{Counter, folder_end, read_folder, write};
use super::watch_stream::{Reading, Streams};
use super::{Client, Entry, Nodes, Setup, Tier, Workload};
use crate::history::{Delete, Range, Request, Response, Txn, WatchSpec};

pub(super) const ENTRY: Entry = Entry {
    name: "compact",
    about: "history is compacted all the time, and read and watched below, at and above the compact revision",
    checkers: &["compaction", "watch", "witness", "convergence"],
    needs_own_store: true,
    tier: Tier::Store,
    nodes: Nodes::Hollow,
    create: |setup| Arc::new(Compacting::new(setup)),
};

const KEYS: u32 = 10;
/// How far behind the newest revision a compaction is, at most.
const COMPACT_DISTANCE: i64 = 60;
/// How far behind and ahead of the newest revision reads are.
const READ_DISTANCE: std::ops::RangeInclusive<i64> = -120..=5;
/// Watches on one stream.
const WATCHES_PER_STREAM: usize = 5;
/// How long a stream stays open: not for long, since what matters is where it begins.
const STREAM_LASTS_MS: std::ops::Range<u64> = 100..1500;
/// How many streams are not read for a while.
const LULLS: f64 = 0.3;

struct Compacting {
    prefix: String,
    generator: Mutex<Generator>,
    streams: Streams,
    /// The highest revision that is known to be compacted.
    compacted: AtomicI64,
    /// The highest revision at which something was deleted.
    deleted: AtomicI64,
}

/// What clients know of the store's revisions.
#[derive(Clone, Copy, Debug)]
struct Place {
    newest: i64,
    compacted: i64,
    deleted: i64,
}

impl Compacting {
    fn new(setup: &Setup) -> Self {
        Self {
            prefix: setup.prefix.clone(),
            generator: Mutex::new(Generator::new(setup)),
            streams: Streams::default(),
            compacted: AtomicI64::new(0),
            deleted: AtomicI64::new(0),
        }
    }

    fn generator(&self) -> MutexGuard<'_, Generator> {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> Place {
        Place {
            newest: self.streams.newest(),
            compacted: self.compacted.load(Ordering::Relaxed),
            deleted: self.deleted.load(Ordering::Relaxed),
        }
    }

    async fn request(&self, client: &mut Client) -> std::io::Result<()> {
        let request = self.generator().next_request(self.place());
        if let Ok((response, revision)) = client.exchange(&request).await? {
            self.streams.note(revision);
            if matches!(response, Response::Delete { deleted, .. } if deleted > 0) {
                self.deleted.fetch_max(revision, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    async fn compact(&self, client: &mut Client) -> std::io::Result<()> {
        let revision = self.generator().next_compaction(self.place());
        if client.compact(revision).await?.is_ok() {
            self.compacted.fetch_max(revision, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn watch(&self, client: &mut Client) -> std::io::Result<()> {
        let specs = self.generator().next_watches(self.place());
        let reading = self.generator().next_reading();
        self.streams.session(client, specs, reading).await?;
        Ok(())
    }
}

#[async_trait]
impl Workload for Compacting {
    async fn work(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        // Those that compact go round all members, the others do not.
        let (watches, compacts) = (client.number() % 4 == 2, client.number() % 4 == 3);
        while client.turn().await {
            if watches {
                self.watch(&mut client).await?;
            } else if compacts && self.generator().is_time_to_compact() {
                self.compact(&mut client).await?;
            } else {
                self.request(&mut client).await?;
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

    fn next_compaction(&mut self, place: Place) -> i64 {
        let Place { newest, compacted, deleted } = place;
        match self.random.random_range(0..20_u8) {
            // Seldom what has not happened yet.
            0 => newest + self.random.random_range(1_000_000..2_000_000),
            1..=10 if deleted > compacted => deleted,
            _ => (newest - self.random.random_range(0..=COMPACT_DISTANCE)).max(1),
        }
    }

    fn next_request(&mut self, place: Place) -> Request {
        let number = self.random.random_range(0..KEYS);
        let folder = format!("{}compact/", self.prefix);
        let key = format!("{folder}{number}");
        match self.random.random_range(0..12_u8) {
            0..=3 => write(&key, self.values.next().to_string()),
            4 | 5 => Request::Delete(Delete { key, end: None }),
            6 => Request::Range(Range { key, ..Range::default() }),
            7 => {
                let then = vec![write(&key, self.values.next().to_string()), self.past(key, place)];
                Request::Txn(Txn { then, ..Txn::default() })
            }
            _ => self.past(key, place),
        }
    }

    /// Reads a key or all of them at some revision.
    fn past(&mut self, key: String, place: Place) -> Request {
        let revision = self.around(place, READ_DISTANCE);
        let (key, end) = if self.random.random_bool(0.5) { (key, None) } else { self.folder() };
        Request::Range(Range { key, end, revision, serializable: false })
    }

    fn folder(&self) -> (String, Option<String>) {
        let folder = format!("{}compact/", self.prefix);
        let end = folder_end(&folder);
        (folder, Some(end))
    }

    /// Draws a revision beside the compact one, or far from it.
    fn around(&mut self, place: Place, distance: std::ops::RangeInclusive<i64>) -> i64 {
        let Place { newest, compacted, .. } = place;
        let revision = if self.random.random_bool(0.4) {
            compacted + self.random.random_range(-1..=1)
        } else {
            newest + self.random.random_range(distance)
        };
        revision.max(1)
    }

    fn next_watches(&mut self, place: Place) -> Vec<WatchSpec> {
        (0..WATCHES_PER_STREAM).map(|_| self.next_watch(place)).collect()
    }

    fn next_watch(&mut self, place: Place) -> WatchSpec {
        let number = self.random.random_range(0..KEYS);
        let is_single = self.random.random_bool(0.3);
        let (key, end) =
            if is_single { (format!("{}compact/{number}", self.prefix), None) } else { self.folder() };
        WatchSpec {
            key,
            end,
            from: self.around(place, -COMPACT_DISTANCE..=0),
            prev_kv: self.random.random_bool(0.5),
            ..WatchSpec::default()
        }
    }

    fn next_reading(&mut self) -> Reading {
        let lasts_ms = self.random.random_range(STREAM_LASTS_MS);
        Reading::drawn(Duration::from_millis(lasts_ms), LULLS, &mut self.random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { newest: 1000, compacted: 950, deleted: 970 };

    fn generator() -> Generator {
        Generator::new(&Setup { seed: 1, prefix: String::new(), members: 3 })
    }

    #[test]
    fn reads_are_below_at_and_above_both_revisions() {
        let mut generator = generator();
        let (mut alone, mut in_transactions) = (Vec::new(), Vec::new());
        for _ in 0..2000 {
            match generator.next_request(PLACE) {
                Request::Range(range) if range.revision > 0 => alone.push(range.revision),
                Request::Txn(Txn { then, .. }) => match then.as_slice() {
                    [Request::Put(_), Request::Range(range)] => in_transactions.push(range.revision),
                    other => panic!("{other:?}"),
                },
                _ => {}
            }
        }
        for revisions in [alone, in_transactions] {
            assert!(revisions.iter().any(|revision| *revision < 940));
            assert!([949, 950, 951].iter().all(|beside| revisions.contains(beside)));
            assert!(revisions.iter().any(|revision| *revision > 1000));
        }
    }

    #[test]
    fn compactions_go_where_something_was_deleted_and_seldom_into_the_future() {
        let mut generator = generator();
        let compactions: Vec<i64> = (0..200).map(|_| generator.next_compaction(PLACE)).collect();
        assert!(compactions.iter().any(|revision| *revision > 1000));
        assert!(compactions.iter().filter(|revision| **revision <= 1000).count() > 160);
        assert!(compactions.iter().filter(|revision| **revision == 970).count() > 70);
        let nothing_new = Place { deleted: 950, ..PLACE };
        let compactions: Vec<i64> = (0..200).map(|_| generator.next_compaction(nothing_new)).collect();
        assert!(compactions.iter().filter(|revision| **revision == 950).count() < 20);
    }

    #[test]
    fn watches_begin_just_below_at_and_above_the_compact_revision() {
        let mut generator = generator();
        let watches: Vec<WatchSpec> = (0..100).flat_map(|_| generator.next_watches(PLACE)).collect();
        let count = |from| watches.iter().filter(|watch| watch.from == from).count();
        assert!([949, 950, 951].iter().all(|from| count(*from) > 20));
        assert!(watches.iter().all(|watch| (940..=1000).contains(&watch.from)));
    }
}
