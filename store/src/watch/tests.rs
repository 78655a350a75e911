//! Watches over a real store: each event once, in order, without gaps, whatever the watcher's speed.

use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};

use futures::StreamExt;

use super::{Hub, StoreAccess, Watcher};
use crate::engine::MemoryEngine;
use crate::kv::{KvError, ProgressMode, WatchItem, WatchQuery};
use crate::mvcc::{
    Collection, Command, DeleteRange, KeyRange, Op, Put, RangeEnd, Revision, Store, Txn, snapshot,
};

struct Fixture {
    shared: Arc<Shared>,
    hub: Arc<Hub>,
}

struct Shared {
    store: RwLock<Store>,
}

impl StoreAccess for Shared {
    fn with_store(&self, read: &mut dyn FnMut(&Store)) {
        read(&self.store.read().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What came out of a watcher until it had nothing more.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    revisions: Vec<i64>,
    progress: Vec<i64>,
    error: Option<KvError>,
}

impl Fixture {
    fn new() -> Self {
        let store = Store::open(Arc::new(MemoryEngine::new())).unwrap();
        let hub = Arc::new(Hub::new(store.current_revision()));
        Self { shared: Arc::new(Shared { store: RwLock::new(store) }), hub }
    }

    fn apply(&self, command: &Command) {
        let mut store = self.shared.store.write().unwrap();
        let applied = store.apply(command).unwrap();
        store.commit().unwrap();
        drop(store);
        self.hub.publish(applied.events);
    }

    fn put(&self, key: &'static str) {
        self.put_bytes(key, 1);
    }

    fn put_bytes(&self, key: &'static str, bytes: usize) {
        let put = Put { key: key.into(), value: vec![b'x'; bytes].into(), ..Put::default() };
        self.apply(&Command::Txn(Txn::of(Op::Put(put))));
    }

    fn compact(&self, revision: i64) {
        self.apply(&Command::Compact { revision: Revision(revision) });
        self.collect();
    }

    fn collect(&self) {
        let mut store = self.shared.store.write().unwrap();
        while store.collect(100).unwrap() == Collection::MoreToDo {
            store.commit().unwrap();
        }
        store.commit().unwrap();
    }

    fn watch(&self, range: KeyRange, start: Option<i64>, progress: ProgressMode) -> Result<Watcher, KvError> {
        let query = WatchQuery { range, start: start.map(Revision), prev_kv: true, progress };
        let store: Arc<dyn StoreAccess> = Arc::<Shared>::clone(&self.shared);
        self.hub.watch(query, store)
    }

    fn quiet(&self, range: KeyRange, start: Option<i64>) -> Watcher {
        self.watch(range, start, ProgressMode::OnRequest).unwrap()
    }
}

fn all() -> KeyRange {
    KeyRange { start: "\0".into(), end: RangeEnd::Unbounded }
}

/// Polls until the watcher waits; a pending poll that woke itself is no waiting.
fn drain(watcher: &mut Watcher) -> Seen {
    let mut seen = Seen::default();
    let mut context = Context::from_waker(Waker::noop());
    let mut idle_polls = 0;
    while idle_polls < 3 {
        match watcher.poll_next_unpin(&mut context) {
            Poll::Ready(Some(Ok(WatchItem::Events { events, revision }))) => {
                assert_eq!(events.last().unwrap().kv.mod_revision.max(revision), revision);
                seen.revisions.extend(events.iter().map(|event| event.kv.mod_revision.0));
            }
            Poll::Ready(Some(Ok(WatchItem::Progress(revision)))) => seen.progress.push(revision.0),
            Poll::Ready(Some(Err(error))) => seen.error = Some(error),
            Poll::Ready(None) => return seen,
            Poll::Pending => idle_polls += 1,
        }
    }
    seen
}

#[test]
fn a_watch_gets_the_matching_events_from_its_start_on() {
    let fixture = Fixture::new();
    fixture.put("a"); // 2
    let mut now = fixture.quiet(KeyRange::single("a"), None);
    let mut past = fixture.quiet(all(), Some(2));
    let mut future = fixture.quiet(all(), Some(5));
    fixture.put("b"); // 3
    fixture.put("a"); // 4
    fixture.put("c"); // 5
    assert_eq!(drain(&mut now).revisions, [4]);
    assert_eq!(drain(&mut past).revisions, [2, 3, 4, 5]);
    assert_eq!(drain(&mut future).revisions, [5]);
    fixture.put("a"); // 6
    assert_eq!(drain(&mut now).revisions, [6]);
    assert_eq!(drain(&mut past).revisions, [6]);
}

#[test]
fn a_slow_watcher_reads_what_its_queue_lost() {
    let fixture = Fixture::new();
    let mut watcher = fixture.quiet(KeyRange::single("a"), None);
    for _ in 0..3000 {
        fixture.put("a");
        fixture.put("b");
    }
    let expected: Vec<i64> = (0..3000).map(|number| 2 + 2 * number).collect();
    assert_eq!(drain(&mut watcher).revisions, expected);
    fixture.put("a");
    assert_eq!(drain(&mut watcher).revisions, [6002]);
}

#[test]
fn a_watcher_older_than_the_ring_reads_rows() {
    let fixture = Fixture::new();
    let mut watcher = fixture.quiet(all(), None);
    // More than the ring and any queue hold.
    for _ in 0..48 {
        fixture.put_bytes("big", 1 << 20);
    }
    fixture.put("small");
    let expected: Vec<i64> = (2..=50).collect();
    assert_eq!(drain(&mut watcher).revisions, expected);
}

#[test]
fn a_revision_is_never_split() {
    let fixture = Fixture::new();
    let mut watcher = fixture.quiet(all(), None);
    let keys = ["a", "b", "c"];
    let puts = keys.map(|key| Op::Put(Put { key: key.into(), ..Put::default() }));
    fixture.apply(&Command::Txn(Txn { success: puts.to_vec(), ..Txn::default() }));
    let delete = Op::DeleteRange(DeleteRange { range: all(), prev_kv: false });
    fixture.apply(&Command::Txn(Txn::of(delete)));
    assert_eq!(drain(&mut watcher).revisions, [2, 2, 2, 3, 3, 3]);
    let mut past = fixture.quiet(all(), Some(1));
    assert_eq!(drain(&mut past).revisions, [2, 2, 2, 3, 3, 3]);
}

#[test]
fn a_start_below_the_compact_revision_is_refused_and_one_at_it_is_not() {
    let fixture = Fixture::new();
    for _ in 0..4 {
        fixture.put("a");
    }
    fixture.compact(4);
    let error = fixture.watch(all(), Some(3), ProgressMode::OnRequest).err();
    assert_eq!(error, Some(KvError::Compacted { requested: Revision(3), compacted: Revision(4) }));
    assert_eq!(drain(&mut fixture.quiet(all(), Some(4))).revisions, [4, 5]);
}

/// Whether the ring still holds it or collection was here must not show.
#[test]
fn what_a_key_held_before_the_compact_revision_is_not_told() {
    for is_collected in [false, true] {
        let fixture = Fixture::new();
        (0..3).for_each(|_| fixture.put("a"));
        fixture.apply(&Command::Compact { revision: Revision(3) });
        if is_collected {
            fixture.collect();
        }
        let mut watcher = fixture.quiet(all(), Some(3));
        let Poll::Ready(Some(Ok(WatchItem::Events { events, .. }))) =
            watcher.poll_next_unpin(&mut Context::from_waker(Waker::noop()))
        else {
            panic!("no events");
        };
        let held: Vec<_> =
            events.iter().map(|event| event.prev.as_ref().map(|kv| kv.mod_revision.0)).collect();
        assert_eq!(held, [None, Some(3)]);
    }
}

#[test]
fn a_watcher_that_falls_behind_a_compaction_ends() {
    let fixture = Fixture::new();
    let mut slow = fixture.quiet(all(), None);
    let mut synced = fixture.quiet(all(), None);
    for _ in 0..48 {
        fixture.put_bytes("big", 1 << 20);
        let _seen = drain(&mut synced);
    }
    fixture.compact(49);
    let seen = drain(&mut slow);
    assert_eq!(seen.error, Some(KvError::Compacted { requested: Revision(2), compacted: Revision(49) }));
    assert_eq!(drain(&mut slow), Seen::default(), "nothing follows the error");
    fixture.put("a");
    assert_eq!(drain(&mut synced).revisions, [50]);
}

#[test]
fn a_quiet_watcher_is_not_hurt_by_the_compaction_of_what_it_did_not_want() {
    let fixture = Fixture::new();
    let mut watcher = fixture.quiet(KeyRange::single("a"), None);
    for _ in 0..10 {
        fixture.put("b");
    }
    fixture.compact(11);
    // Overflows the queue in one go, so that the watcher has to read by itself.
    for _ in 0..8 {
        fixture.put_bytes("a", 1 << 20);
    }
    let seen = drain(&mut watcher);
    assert_eq!((seen.revisions, seen.error), ((12..=19).collect(), None));
}

#[test]
fn progress_comes_behind_all_events_and_never_before_the_start() {
    let fixture = Fixture::new();
    let mut watcher = fixture.quiet(KeyRange::single("a"), None);
    let mut future = fixture.quiet(KeyRange::single("a"), Some(100));
    fixture.put("a"); // 2
    fixture.put("b"); // 3
    watcher.progress_handle().request();
    future.progress_handle().request();
    assert_eq!(drain(&mut watcher), Seen { revisions: vec![2], progress: vec![3], error: None });
    assert_eq!(drain(&mut future), Seen::default());
    assert_eq!(drain(&mut watcher), Seen::default(), "asked for once, told once");
}

#[test]
fn automatic_progress_follows_every_change_of_other_keys() {
    let fixture = Fixture::new();
    let mut watcher = fixture.watch(KeyRange::single("a"), None, ProgressMode::Automatic).unwrap();
    assert_eq!(drain(&mut watcher).progress, [1]);
    fixture.put("b"); // 2
    fixture.put("b"); // 3
    assert_eq!(drain(&mut watcher).progress, [3]);
    fixture.put("a"); // 4
    assert_eq!(drain(&mut watcher), Seen { revisions: vec![4], progress: vec![], error: None });
}

#[test]
fn automatic_progress_is_told_when_the_past_held_nothing_for_the_watcher() {
    let fixture = Fixture::new();
    fixture.put("b"); // 2
    fixture.hub.reset(Revision(2));
    let mut watcher = fixture.watch(KeyRange::single("a"), Some(2), ProgressMode::Automatic).unwrap();
    assert_eq!(drain(&mut watcher).progress, [2]);
    assert_eq!(drain(&mut watcher), Seen::default());
}

#[test]
fn a_replaced_state_neither_repeats_nor_loses_events() {
    let fixture = Fixture::new();
    let mut read = fixture.quiet(all(), None);
    let mut unread = fixture.quiet(all(), None);
    fixture.put("a"); // 2
    assert_eq!(drain(&mut read).revisions, [2]);
    // Another member goes on without us; its whole state comes as a snapshot.
    let copy = MemoryEngine::new();
    let engine = Arc::clone(fixture.shared.store.read().unwrap().engine());
    let flow = snapshot::export(engine.as_ref(), &mut |chunk| {
        snapshot::import(&copy, chunk).unwrap();
        ControlFlow::Continue(())
    });
    assert_eq!(flow.unwrap(), ControlFlow::Continue(()));
    let mut ahead = Store::open(Arc::new(copy)).unwrap();
    for key in ["b", "c"] {
        let put = Put { key: key.into(), ..Put::default() };
        ahead.apply(&Command::Txn(Txn::of(Op::Put(put)))).unwrap();
    }
    ahead.commit().unwrap();
    *fixture.shared.store.write().unwrap() = ahead;
    fixture.hub.reset(Revision(4));
    fixture.put("d"); // 5
    assert_eq!(drain(&mut read).revisions, [3, 4, 5]);
    assert_eq!(drain(&mut unread).revisions, [2, 3, 4, 5]);
}

#[test]
fn dropping_a_watcher_unsubscribes_and_closing_the_hub_ends_the_rest() {
    let fixture = Fixture::new();
    let dropped = fixture.quiet(all(), None);
    let mut kept = fixture.quiet(all(), None);
    drop(dropped);
    assert_eq!(fixture.hub.watcher_count(), 1);
    fixture.hub.close();
    assert_eq!(drain(&mut kept).error, Some(KvError::Stopped));
}
