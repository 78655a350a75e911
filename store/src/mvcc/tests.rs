//! Named rules of the store, each with its smallest example.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::engine::{Engine, MemoryEngine};

/// A store with short ways to say things.
struct Fixture {
    engine: MemoryEngine,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let engine = MemoryEngine::new();
        let store = Store::open(Arc::new(engine.clone())).unwrap();
        Self { engine, store }
    }

    fn apply(&mut self, command: &Command) -> Applied {
        let applied = self.store.apply(command).unwrap();
        self.store.commit().unwrap();
        applied
    }

    fn txn(&mut self, txn: Txn) -> Result<TxnResult, Refusal> {
        match self.apply(&Command::Txn(txn)).answer? {
            Answer::Txn(result) => Ok(result),
            other => panic!("not the answer of a txn: {other:?}"),
        }
    }

    fn put(&mut self, key: &'static str, value: &'static str) -> Revision {
        self.txn(Txn::of(put(key, value))).unwrap().revision
    }

    fn delete(&mut self, key: &'static str) -> Revision {
        self.txn(Txn::of(delete(KeyRange::single(key)))).unwrap().revision
    }

    fn compact(&mut self, revision: i64) -> Result<(), Refusal> {
        self.apply(&Command::Compact { revision: Revision(revision) }).answer.map(|_| ())
    }

    fn grant(&mut self, id: i64) -> Result<Answer, Refusal> {
        self.apply(&Command::LeaseGrant { id: LeaseId(id), ttl_seconds: 60 }).answer
    }

    fn collect_all(&mut self) {
        while self.store.collect(2).unwrap() == Collection::MoreToDo {
            self.store.commit().unwrap();
        }
        self.store.commit().unwrap();
    }

    fn get_at(&self, key: &'static str, revision: i64) -> Result<Option<KeyValue>, Refusal> {
        let range = Range { revision: Some(Revision(revision)), ..Range::new(KeyRange::single(key)) };
        Ok(self.store.range(&range).unwrap()?.kvs.into_iter().next())
    }

    fn get(&self, key: &'static str) -> Option<KeyValue> {
        self.store.range(&Range::new(KeyRange::single(key))).unwrap().unwrap().kvs.into_iter().next()
    }
}

fn put(key: &'static str, value: &'static str) -> Op {
    Op::Put(Put { key: key.into(), value: value.into(), ..Put::default() })
}

fn delete(range: KeyRange) -> Op {
    Op::DeleteRange(DeleteRange { range, prev_kv: true })
}

fn get(key: &'static str) -> Op {
    Op::Range(Range::new(KeyRange::single(key)))
}

fn when(key: &'static str, target: CompareTarget, result: CompareResult) -> Compare {
    Compare { range: KeyRange::single(key), target, result }
}

#[test]
fn an_empty_store_stands_at_revision_one_and_was_never_compacted() {
    let fixture = Fixture::new();
    assert_eq!(fixture.store.current_revision(), Revision(1));
    assert_eq!(fixture.store.compact_revision(), Revision(-1));
}

#[test]
fn a_txn_adds_one_revision_if_it_changes_anything_and_none_otherwise() {
    let mut fixture = Fixture::new();
    let both = Txn { success: vec![put("a", "1"), put("b", "1")], ..Txn::default() };
    assert_eq!(fixture.txn(both).unwrap().revision, Revision(2));
    assert_eq!(fixture.put("a", "1"), Revision(3), "an equal value is a change");
    assert_eq!(fixture.delete("missing"), Revision(3));
    fixture.grant(7).unwrap();
    fixture.compact(3).unwrap();
    assert_eq!(fixture.store.current_revision(), Revision(3));
}

#[test]
fn a_generation_starts_anew_after_a_delete() {
    let mut fixture = Fixture::new();
    fixture.put("a", "1");
    fixture.put("a", "2");
    let kv = fixture.get("a").unwrap();
    assert_eq!((kv.create_revision.0, kv.mod_revision.0, kv.version), (2, 3, 2));
    fixture.delete("a");
    assert_eq!(fixture.get("a"), None);
    fixture.put("a", "3");
    let kv = fixture.get("a").unwrap();
    assert_eq!((kv.create_revision.0, kv.mod_revision.0, kv.version), (5, 5, 1));
}

#[test]
fn a_delete_event_carries_only_key_and_revision_and_what_was_before() {
    let mut fixture = Fixture::new();
    fixture.put("a", "1");
    let applied = fixture.apply(&Command::Txn(Txn::of(delete(KeyRange::single("a")))));
    let event = &applied.events[0].events[0];
    assert_eq!(event.kind, EventKind::Delete);
    assert_eq!(event.kv, KeyValue { key: "a".into(), mod_revision: Revision(3), ..KeyValue::default() });
    assert_eq!(event.prev.as_ref().unwrap().value, "1");
}

#[test]
fn all_compares_see_the_state_before_the_txn() {
    let mut fixture = Fixture::new();
    let nested = Txn {
        compare: vec![when("a", CompareTarget::Version(0), CompareResult::Equal)],
        success: vec![put("seen", "before")],
        failure: vec![put("seen", "after")],
    };
    fixture.txn(Txn { success: vec![put("a", "1"), Op::Txn(nested)], ..Txn::default() }).unwrap();
    assert_eq!(fixture.get("seen").unwrap().value, "before");
}

#[test]
fn a_read_in_a_txn_sees_the_writes_before_it() {
    let mut fixture = Fixture::new();
    let result =
        fixture.txn(Txn { success: vec![get("a"), put("a", "1"), get("a")], ..Txn::default() }).unwrap();
    let read = |result: &OpResult| match result {
        OpResult::Range(range) => (range.count, range.revision.0),
        other => panic!("not a range: {other:?}"),
    };
    assert_eq!(read(&result.results[0]), (0, 1));
    assert_eq!(read(&result.results[2]), (1, 2));
}

#[test]
fn a_compare_of_an_absent_key_reads_zero_but_never_a_value() {
    let mut fixture = Fixture::new();
    let mut holds = |target: CompareTarget, result| {
        fixture.txn(Txn { compare: vec![when("none", target, result)], ..Txn::default() }).unwrap().succeeded
    };
    assert!(holds(CompareTarget::ModRevision(Revision(0)), CompareResult::Equal));
    assert!(holds(CompareTarget::Lease(LeaseId(1)), CompareResult::Less));
    assert!(!holds(CompareTarget::Value(Bytes::new()), CompareResult::Equal));
    assert!(!holds(CompareTarget::Value(Bytes::from_static(b"x")), CompareResult::NotEqual));
}

#[test]
fn a_failed_check_fails_the_whole_txn_before_any_write() {
    let mut fixture = Fixture::new();
    let leased = Op::Put(Put { key: "b".into(), lease: LeaseId(9), ..Put::default() });
    let keeps = Op::Put(Put { key: "c".into(), ignore_value: true, ..Put::default() });
    let future = Op::Range(Range { revision: Some(Revision(9)), ..Range::new(KeyRange::single("a")) });
    for (op, refusal) in [
        (leased, Refusal::LeaseNotFound),
        (keeps, Refusal::KeyNotFound),
        (future, Refusal::FutureRevision { requested: Revision(9), current: Revision(1) }),
    ] {
        assert_eq!(fixture.txn(Txn { success: vec![put("a", "1"), op], ..Txn::default() }), Err(refusal));
        assert_eq!(fixture.get("a"), None);
        assert_eq!(fixture.store.current_revision(), Revision(1));
    }
}

#[test]
fn compacted_revision_is_rejected_and_the_compact_revision_itself_is_readable() {
    let mut fixture = Fixture::new();
    fixture.put("a", "1");
    fixture.put("a", "2");
    fixture.put("a", "3");
    fixture.compact(3).unwrap();
    let compacted = Refusal::Compacted { requested: Revision(2), compacted: Revision(3) };
    assert_eq!(fixture.get_at("a", 2), Err(compacted));
    assert_eq!(fixture.get_at("a", 3).unwrap().unwrap().value, "2");
    assert_eq!(
        fixture.compact(3),
        Err(Refusal::Compacted { requested: Revision(3), compacted: Revision(3) })
    );
    assert_eq!(
        fixture.compact(9),
        Err(Refusal::FutureRevision { requested: Revision(9), current: Revision(4) })
    );
}

#[test]
fn collection_keeps_what_held_at_the_compact_revision_and_a_tombstone_just_there() {
    let mut fixture = Fixture::new();
    fixture.put("a", "1"); // 2
    fixture.put("a", "2"); // 3
    fixture.put("b", "1"); // 4
    fixture.delete("b"); // 5
    fixture.put("c", "1"); // 6
    fixture.delete("c"); // 7
    let rows = |fixture: &Fixture| {
        let mut rows = Vec::new();
        fixture
            .engine
            .scan(b"", Some(&[0xff]), &mut |key, _| {
                rows.push(RowId::from_key(key).unwrap().main.0);
                ControlFlow::Continue(())
            })
            .unwrap();
        rows
    };
    let digest = fixture.store.digest();
    fixture.compact(7).unwrap();
    assert_ne!(fixture.store.digest(), digest);
    let digest = fixture.store.digest();
    fixture.collect_all();
    assert_eq!(rows(&fixture), [3, 7]);
    assert_eq!(fixture.store.digest(), digest, "collection is local and changes no state");
    fixture.put("d", "1"); // 8
    fixture.compact(8).unwrap();
    fixture.collect_all();
    assert_eq!(rows(&fixture), [3, 8], "the tombstone goes with the next compaction");
}

#[test]
fn a_pass_steps_over_revisions_that_never_were() {
    let mut fixture = Fixture::new();
    fixture.txn(Txn::of(put("k", "1"))).unwrap();
    fixture.compact(2).unwrap();
    fixture.collect_all();
    // A restored cluster begins a thousand million revisions further on, and says that all before is compacted.
    fixture.store.state.revision = Revision(1_000_000_002);
    fixture.txn(Txn::of(put("k", "2"))).unwrap();
    fixture.compact(1_000_000_003).unwrap();
    let mut pieces = 1;
    while fixture.store.collect(10).unwrap() == Collection::MoreToDo {
        fixture.store.commit().unwrap();
        pieces += 1;
    }
    assert_eq!(pieces, 1);
    assert_eq!(fixture.store.collected_revision(), Revision(1_000_000_003));
}

#[test]
fn what_was_read_of_a_state_that_was_replaced_is_not_removed_from_the_new_one() {
    let mut fixture = Fixture::new();
    let mut other = Fixture::new();
    for fixture in [&mut fixture, &mut other] {
        for value in ["1", "2"] {
            fixture.txn(Txn::of(put("k", value))).unwrap();
        }
        fixture.compact(3).unwrap();
    }
    let mut piece = other.store.uncollected().unwrap().read(10).unwrap();
    assert_eq!(fixture.store.collect_piece(&mut piece, 1), Collection::MoreToDo);
    assert!(piece.is_empty(), "nobody goes on with it");
    assert!(fixture.store.collected_revision() < Revision(3));
    fixture.collect_all();
    assert_eq!(fixture.store.collected_revision(), Revision(3));
}

#[test]
fn a_watch_from_the_compact_revision_sees_all_of_it_behind_the_collection_too() {
    let mut fixture = Fixture::new();
    fixture.put("a", "1"); // 2
    // Each in a transaction of its own, for one that puts and deletes a key is refused.
    let nested = |op| Op::Txn(Txn::of(op));
    let both = vec![nested(put("a", "2")), nested(delete(KeyRange::single("a")))];
    let revision = fixture.txn(Txn { success: both, ..Txn::default() }).unwrap().revision;
    let told = |fixture: &Fixture| {
        let limits = HistoryLimits { rows_max: 100, bytes_max: 1000 };
        let history = fixture.store.history(&KeyRange::single("a"), revision, limits).unwrap().unwrap();
        history.revisions.into_iter().next().unwrap().events
    };
    let all = told(&fixture);
    assert_eq!(all.len(), 2);
    fixture.compact(revision.0).unwrap();
    fixture.collect_all();
    let kinds: Vec<EventKind> = told(&fixture).iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Put, EventKind::Delete]);
    assert_eq!(told(&fixture)[1].prev, all[1].prev);
    fixture.put("b", "1");
    fixture.compact(revision.0 + 1).unwrap();
    fixture.collect_all();
    assert!(fixture.store.index.entry(b"a").is_none(), "the next compaction removes both");
}

#[test]
fn a_revoked_lease_deletes_its_keys_in_order_at_one_revision() {
    let mut fixture = Fixture::new();
    fixture.grant(7).unwrap();
    assert_eq!(fixture.grant(7), Err(Refusal::LeaseExists));
    for key in ["b", "a", "c"] {
        let put = Put { key: key.into(), lease: LeaseId(7), ..Put::default() };
        fixture.txn(Txn::of(Op::Put(put))).unwrap();
    }
    fixture.put("c", "detached");
    let applied = fixture.apply(&Command::LeaseRevoke { id: LeaseId(7) });
    assert_eq!(applied.events.len(), 1);
    let keys: Vec<_> = applied.events[0].events.iter().map(|event| event.kv.key.clone()).collect();
    assert_eq!(keys, ["a", "b"]);
    assert_eq!(fixture.get("c").unwrap().value, "detached");
    let again = fixture.apply(&Command::LeaseRevoke { id: LeaseId(7) });
    assert_eq!(again.answer, Err(Refusal::LeaseNotFound));
}

#[test]
fn an_expiry_ends_only_the_grant_that_was_meant() {
    let mut fixture = Fixture::new();
    fixture.grant(7).unwrap();
    let grant = fixture.store.lease(LeaseId(7)).unwrap().grant;
    fixture.apply(&Command::LeaseRevoke { id: LeaseId(7) });
    fixture.grant(7).unwrap();
    let expired = vec![GrantedLease { id: LeaseId(7), grant }, GrantedLease { id: LeaseId(8), grant }];
    let applied = fixture.apply(&Command::LeaseExpire { leases: expired });
    assert_eq!(applied.answer, Ok(Answer::Done));
    assert!(fixture.store.lease(LeaseId(7)).is_some());
}

#[test]
fn a_lease_keeps_its_checkpoint_and_keys_over_a_restart() {
    let mut fixture = Fixture::new();
    fixture.grant(7).unwrap();
    let put = Put { key: "a".into(), lease: LeaseId(7), ..Put::default() };
    fixture.txn(Txn::of(Op::Put(put))).unwrap();
    let lease = GrantedLease { id: LeaseId(7), grant: fixture.store.lease(LeaseId(7)).unwrap().grant };
    let remaining = LeaseRemaining { lease, remaining_seconds: Some(12) };
    fixture.apply(&Command::LeaseCheckpoint { leases: vec![remaining] });
    let reopened = Store::open(Arc::new(fixture.engine.clone())).unwrap();
    assert_eq!(reopened.lease(LeaseId(7)), fixture.store.lease(LeaseId(7)));
    assert_eq!(reopened.lease(LeaseId(7)).unwrap().remaining_seconds, Some(12));
    assert_eq!(reopened.digest(), fixture.store.digest());
}

#[test]
fn a_store_with_a_lost_changed_or_added_row_does_not_open() {
    for damage in 0..3 {
        let mut fixture = Fixture::new();
        fixture.put("a", "1");
        fixture.put("b", "2");
        let mut batch = crate::engine::Batch::default();
        let id = RowId::first_of(Revision(2));
        let kv = KeyValue {
            key: "a".into(),
            value: "x".into(),
            create_revision: Revision(2),
            mod_revision: Revision(2),
            version: 1,
            lease: LeaseId::NONE,
        };
        match damage {
            0 => batch.delete(id.to_key()),
            1 => batch.put(id.to_key(), Row { kind: EventKind::Put, kv }.encode()),
            _ => {
                let kv = KeyValue { mod_revision: Revision(4), ..kv };
                batch.put(RowId::first_of(Revision(4)).to_key(), Row { kind: EventKind::Put, kv }.encode());
            }
        }
        fixture.engine.write(&batch).unwrap();
        assert!(Store::open(Arc::new(fixture.engine.clone())).is_err(), "damage {damage}");
    }
}

#[test]
fn a_snapshot_carries_the_whole_state() {
    let mut fixture = Fixture::new();
    fixture.grant(7).unwrap();
    fixture.put("a", "1");
    fixture.put("a", "2");
    fixture.store.put_replication_record("applied", &b"42"[..]);
    fixture.store.commit().unwrap();
    let copy = MemoryEngine::new();
    let flow = snapshot::export(&fixture.engine, &mut |chunk| {
        snapshot::import(&copy, chunk).unwrap();
        ControlFlow::Continue(())
    });
    assert_eq!(flow.unwrap(), ControlFlow::Continue(()));
    let copy = Store::open(Arc::new(copy)).unwrap();
    assert_eq!(copy.digest(), fixture.store.digest());
    assert_eq!(copy.index.keys(), fixture.store.index.keys());
    assert_eq!(copy.replication_record("applied").unwrap(), Some(Bytes::from_static(b"42")));
}

#[test]
fn a_txn_that_writes_a_key_twice_or_is_too_long_is_invalid() {
    let check = |success: Vec<Op>| Txn { success, ..Txn::default() }.validate(TXN_OPS_MAX);
    let nested = |success: Vec<Op>, failure: Vec<Op>| Op::Txn(Txn { compare: Vec::new(), success, failure });
    assert_eq!(check(vec![put("a", ""), put("a", "")]), Err(Invalid::DuplicateKey));
    assert_eq!(check(vec![put("ab", ""), delete(KeyRange::prefix("a"))]), Err(Invalid::DuplicateKey));
    assert_eq!(check(vec![delete(KeyRange::single("a")), delete(KeyRange::single("a"))]), Ok(()));
    assert_eq!(check(vec![nested(vec![put("a", "")], vec![put("a", "")])]), Ok(()));
    assert_eq!(
        check(vec![nested(vec![put("a", "")], vec![]), nested(vec![put("a", "")], vec![])]),
        Err(Invalid::DuplicateKey)
    );
    assert_eq!(check(vec![put("", "")]), Err(Invalid::EmptyKey));
    assert_eq!(check(vec![get("a"); TXN_OPS_MAX]), Ok(()));
    assert_eq!(check(vec![get("a"); TXN_OPS_MAX + 1]), Err(Invalid::TooManyOps));
    let mut outer = vec![get("a"); 2];
    outer.push(nested(vec![get("a"); TXN_OPS_MAX - 2], vec![]));
    assert_eq!(check(outer), Err(Invalid::TooManyOps));
}
