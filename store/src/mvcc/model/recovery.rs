//! A store that loses power between any two batches, and gets from the log what it lost.

use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::program::commands;
use crate::engine::{Engine, MemoryEngine};
use crate::mvcc::{Collection, Command, Revision, Store};

const PROGRAMS: u64 = 1500;
/// The record that the replication layer keeps beside the data.
const APPLIED: &str = "applied";

/// What every member shows behind a command.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sight {
    revision: Revision,
    digest: u128,
    rows: u32,
}

impl Sight {
    fn of(store: &Store) -> Self {
        let rows = store.hash_rows(None).unwrap().unwrap();
        Self { revision: store.current_revision(), digest: store.digest(), rows }
    }
}

/// A member that applies a log and is interrupted.
struct Member {
    engine: MemoryEngine,
    store: Store,
    /// Commands that it has applied.
    applied: usize,
}

impl Member {
    fn open(engine: MemoryEngine) -> Self {
        let store = Store::open(Arc::new(engine.clone())).unwrap();
        let record = store.replication_record(APPLIED).unwrap();
        let applied = record.map_or(0, |bytes| u32::from_be_bytes(bytes.as_ref().try_into().unwrap()));
        Self { engine, store, applied: usize::try_from(applied).unwrap() }
    }

    fn apply(&mut self, commands: &[Command]) {
        for command in commands {
            self.store.apply(command).unwrap();
        }
        self.applied += commands.len();
        let record = u32::try_from(self.applied).unwrap().to_be_bytes();
        self.store.put_replication_record(APPLIED, Bytes::copy_from_slice(&record));
        self.store.commit().unwrap();
    }

    /// Reads some rows and looks at them one at a time.
    fn collect(&mut self, rows_max: usize) -> Collection {
        let Some(uncollected) = self.store.uncollected() else { return Collection::Finished };
        let mut piece = uncollected.read(rows_max).unwrap();
        loop {
            let collection = self.store.collect_piece(&mut piece, 1);
            self.store.commit().unwrap();
            if piece.is_empty() {
                return collection;
            }
        }
    }
}

/// The engine keeps whole batches, in order, up to any one behind the last flush: that is what a power cut leaves of it.
#[test]
fn a_power_cut_between_any_two_batches_is_made_good_from_the_log() {
    for seed in 0..PROGRAMS {
        let log = commands(seed);
        let mut undisturbed = Member::open(MemoryEngine::new());
        let mut sights = vec![Sight::of(&undisturbed.store)];
        for command in &log {
            undisturbed.apply(std::slice::from_ref(command));
            sights.push(Sight::of(&undisturbed.store));
        }

        let mut rng = SmallRng::seed_from_u64(seed);
        let mut member = Member::open(MemoryEngine::new());
        let mut flushed = 0;
        while member.applied < log.len() {
            match rng.random_range(0..20) {
                0..9 => {
                    let end = (member.applied + rng.random_range(1..5)).min(log.len());
                    member.apply(&log[member.applied..end]);
                }
                9..16 => {
                    let _more = member.collect(rng.random_range(1..5));
                }
                16 => {
                    member.engine.flush().unwrap();
                    flushed = member.applied;
                }
                _ => {
                    let kept = rng.random_range(0..=member.engine.unflushed_batches());
                    member.engine.crash_behind(kept);
                    member = Member::open(member.engine);
                    assert!(member.applied >= flushed, "seed {seed}: what was flushed is lost");
                    assert_eq!(Sight::of(&member.store), sights[member.applied], "seed {seed}");
                    flushed = member.applied;
                }
            }
        }
        assert_eq!(Some(&Sight::of(&member.store)), sights.last(), "seed {seed}");
        while member.collect(100) == Collection::MoreToDo {}
        while undisturbed.collect(100) == Collection::MoreToDo {}
        assert_eq!(member.store.index.keys(), undisturbed.store.index.keys(), "seed {seed}");
        let reopened = Member::open(member.engine);
        assert_eq!(reopened.store.index.keys(), undisturbed.store.index.keys(), "seed {seed}");
    }
}
