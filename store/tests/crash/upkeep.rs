//! What a member does by itself as time goes by.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use store::AutoCompaction;
use store::env::Engines;
use store::kv::{Consistency, Kv, KvError};
use store::mvcc::{KeyRange, Op, Put, Range, Revision, Store, Txn};
use tokio::time::Instant;

use super::machine::Machine;
use super::script::{look, perform, script};

const RETENTION: Duration = Duration::from_secs(20);
/// A tenth of the retention between two samples; a revision may just have missed one, and be compacted at the next.
const LATE: Duration = Duration::from_secs(5);
/// Rows that nobody can read any more are gone by then.
const COLLECTED: Duration = Duration::from_secs(3);

#[test]
fn history_of_the_retention_is_kept_and_older_is_forgotten_without_being_asked() {
    let mut machine = Machine::new(1);
    machine.auto_compaction = AutoCompaction::Periodic(RETENTION);
    let lived = machine.live(async |member| {
        let started = Instant::now();
        let put = Txn::of(Op::Put(Put { key: "k".into(), ..Put::default() }));
        let mut written = Vec::new();
        while started.elapsed() < 4 * RETENTION {
            if let Ok(result) = member.txn(put.clone()).await {
                written.push((Instant::now(), result.revision));
            }
            tokio::time::sleep(Duration::from_millis(700)).await;
            let compacted = member.status().compact_revision;
            let young = written.iter().find(|(at, _)| at.elapsed() < RETENTION);
            assert!(young.is_none_or(|(_, revision)| compacted <= *revision), "{compacted} is too young");
            let old = written.iter().rev().find(|(at, _)| at.elapsed() > RETENTION + LATE);
            assert!(old.is_none_or(|(_, revision)| compacted >= *revision), "{compacted} is too old");
        }
        let compacted = member.status().compact_revision;
        assert!(compacted > Revision(20), "only compacted up to {compacted}");
        let below = Revision(compacted.0 - 1);
        let range = Range { revision: Some(below), ..Range::new(KeyRange::single("k")) };
        let refused = member.range(range, Consistency::Serializable).await;
        assert_eq!(refused, Err(KvError::Compacted { requested: below, compacted }));
    });
    lived.unwrap();
}

#[test]
fn a_clean_stop_leaves_an_index_that_gives_the_state() {
    let machine = Machine::new(1);
    let lived = machine.live(async |member| {
        perform(member, &script(), &Cell::new(0)).await;
        tokio::time::sleep(COLLECTED).await;
        let sight = look(member).await;
        member.stop().await;
        sight
    });
    // The database has all that was applied.
    machine.engines.crash();
    let mut saved = machine.engines.saved_index().unwrap().unwrap();
    let engine = machine.engines.inspect().unwrap().unwrap();
    let all_rows = Store::open(Arc::clone(&engine)).unwrap();
    let store = Store::open_saved(engine, &mut *saved).unwrap().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((store.digest(), store.row_bytes()), (all_rows.digest(), all_rows.row_bytes()));
    let found = machine.live(async |member| look(member).await);
    assert_eq!(found.unwrap(), lived.unwrap());
}

/// Health checks and watches that require a leader look at this.
#[test]
fn a_member_that_is_alone_hears_its_leader_however_long_nobody_writes() {
    let machine = Machine::new(0);
    let silence = machine.live(async |member| {
        tokio::time::sleep(Duration::from_secs(600)).await;
        member.status().leader_silence
    });
    assert_eq!(silence.unwrap(), Duration::ZERO);
}
