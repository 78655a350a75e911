//! The store against a naive model: random programs, every answer, event and state compared.
//!
//! The model keeps a full copy of the key space per revision, so its reads of the past need no cleverness. Each program also
//! cuts commands into batches, collects garbage and reopens the store at random; none of that may be visible. A failure
//! names its seed; `KEELSON_MODEL_SEED=n` runs that program alone.

mod program;
mod reference;

use std::ops::ControlFlow;
use std::sync::Arc;

use program::Program;
use reference::Reference;

use super::meta::META_PREFIX;
use super::row::ROW_KEY_BYTES;
use super::{Collection, Command, Range, RangeResult, Refusal, Revision, Store};
use crate::engine::MemoryEngine;
use crate::mvcc::{Event, EventKind, HistoryLimits, RevisionEvents, Row, RowBytes};
use crate::wire::{decode_answer, decode_command, encode_answer, encode_command};

const PROGRAMS: u64 = 3000;

struct Run {
    engine: MemoryEngine,
    store: Store,
    reference: Reference,
    /// What the reference published since the last compaction, for replay.
    published: Vec<RevisionEvents>,
}

impl Run {
    fn new() -> Self {
        let engine = MemoryEngine::new();
        let store = Store::open(Arc::new(engine.clone())).unwrap();
        Self { engine, store, reference: Reference::new(), published: Vec::new() }
    }

    fn apply(&mut self, command: &Command) {
        // Through the stored form, as the log would carry it.
        let command = decode_command(encode_command(command)).unwrap();
        let applied = self.store.apply(&command).unwrap();
        let expected = self.reference.apply(&command);
        assert_eq!(applied, expected, "{command:?}");
        let carried = decode_answer(encode_answer(&applied.answer, applied.revision)).unwrap();
        assert_eq!(carried, (applied.answer, applied.revision));
        self.published.extend(expected.events);
    }

    fn check_read(&self, range: &Range) {
        let expected: Result<RangeResult, Refusal> = self.reference.range(range);
        assert_eq!(self.store.range(range).unwrap(), expected, "{range:?}");
    }

    /// A rebuilt store equals the live one in index, leases, digest.
    fn check_reopened(&mut self) {
        let reopened = Store::open(Arc::new(self.engine.clone())).unwrap();
        assert_eq!(reopened.index.keys(), self.store.index.keys());
        assert_eq!(reopened.leases, self.store.leases);
        assert_eq!(reopened.digest(), self.store.digest());
        assert!(reopened.alarms().eq(self.reference.alarms()));
        assert_eq!(reopened.row_bytes(), self.store.row_bytes());
        self.check_bytes();
        self.store = reopened;
    }

    /// What the rows are said to take is what the engine holds of them.
    fn check_bytes(&self) {
        let mut all = 0;
        let engine = self.store.engine();
        let mut add = |key: &[u8], value: &[u8]| {
            all += u64::try_from(key.len() + value.len()).unwrap();
            ControlFlow::Continue(())
        };
        engine.scan(b"", Some(&[META_PREFIX]), &mut add).unwrap();
        let live = self.reference.space().values().map(|kv| {
            let row = Row { kind: EventKind::Put, kv: kv.clone() };
            u64::try_from(ROW_KEY_BYTES + row.encode().len()).unwrap()
        });
        assert_eq!(self.store.row_bytes(), RowBytes { all, live: live.sum() });
    }

    /// A watch from any readable revision gets exactly what was published.
    fn check_history(&self, range: &Range, from: Revision) {
        let limits = HistoryLimits { rows_max: 3, bytes_max: 1 << 20 };
        let mut next = from;
        let mut replayed = Vec::new();
        while next <= self.store.current_revision() {
            match self.store.history(&range.range, next, limits).unwrap() {
                Ok(history) => {
                    replayed.extend(history.revisions);
                    next = history.through.next();
                }
                Err(refusal) => {
                    let compacted = self.reference.compacted();
                    assert_eq!(refusal, Refusal::Compacted { requested: next, compacted });
                    assert!(next < compacted);
                    return;
                }
            }
        }
        let compacted = self.reference.compacted();
        let expected: Vec<RevisionEvents> = self
            .published
            .iter()
            .filter(|revision| revision.revision >= from)
            .map(|revision| RevisionEvents {
                revision: revision.revision,
                events: revision
                    .events
                    .iter()
                    .filter(|event| range.range.contains(&event.kv.key))
                    .map(|event| self.without_compacted_prev(event, compacted))
                    .collect(),
            })
            .filter(|revision| !revision.events.is_empty())
            .collect();
        assert_eq!(replayed, expected, "history of {:?} from {from}", range.range);
    }

    /// What a key held before is lost when a compaction removed that row.
    fn without_compacted_prev(&self, event: &Event, compacted: Revision) -> Event {
        let mut event = event.clone();
        event.prev = event.prev.filter(|prev| {
            prev.mod_revision > compacted
                || self.reference.held_at(&prev.key, compacted) == Some(prev.mod_revision)
        });
        event
    }

    fn run(&mut self, program: &mut Program) {
        for _ in 0..program.length() {
            for command in program.batch() {
                self.apply(&command);
            }
            self.store.commit().unwrap();
            for range in program.reads(self.store.current_revision()) {
                self.check_read(&range);
                self.check_history(&range, range.revision.unwrap_or(Revision(1)));
            }
            if program.one_in(3) && self.store.collect(program.up_to(5)).unwrap() == Collection::MoreToDo {
                assert!(self.reference.compacted() > Revision::NEVER_COMPACTED);
            }
            self.store.commit().unwrap();
            if program.one_in(8) {
                self.check_reopened();
            }
        }
        self.check_reopened();
    }
}

#[test]
fn random_programs_behave_like_the_naive_model() {
    let chosen =
        std::env::var("KEELSON_MODEL_SEED").ok().map(|seed| seed.parse().expect("a seed is a number"));
    let seeds = chosen.map_or(0..PROGRAMS, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let named = SeedOnFailure(seed);
        Run::new().run(&mut Program::new(seed));
        std::mem::forget(named);
    }
}

/// Prints the seed when the program panics.
struct SeedOnFailure(u64);

impl Drop for SeedOnFailure {
    fn drop(&mut self) {
        println!("failing program: KEELSON_MODEL_SEED={}", self.0);
    }
}

#[test]
fn batches_and_collection_do_not_show_in_the_digest() {
    for seed in 0..100 {
        let mut together = Run::new();
        let mut apart = Run::new();
        let mut program = Program::new(seed);
        for _ in 0..program.length() {
            for command in program.batch() {
                together.apply(&command);
                apart.apply(&command);
                apart.store.commit().unwrap();
                let _more = apart.store.collect(2).unwrap();
                apart.store.commit().unwrap();
            }
            together.store.commit().unwrap();
            assert_eq!(together.store.digest(), apart.store.digest(), "seed {seed}");
            let hash = |run: &Run| run.store.hash_rows(None).unwrap().unwrap();
            assert_eq!(hash(&together), hash(&apart), "seed {seed}");
        }
    }
}
