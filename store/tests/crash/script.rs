//! What a client does to the store, and what can be seen of it behind each step.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use store::Member;
use store::kv::{Kv, KvError};
use store::mvcc::{
    DeleteRange, KeyRange, Lease, LeaseId, Op, Put, Range, RangeEnd, RangeResult, Revision, Store, Txn,
};
use store::watch::StoreAccess;

/// One step; none begins before the one before it is acknowledged.
#[derive(Clone, Debug)]
pub enum Step {
    Txn(Txn),
    Grant(i64),
    Revoke(i64),
    /// Forgets all but so many revisions.
    CompactBehind(i64),
    /// Lets collection and snapshots happen.
    Rest,
}

/// Between attempts while there is no leader.
const RETRY: Duration = Duration::from_millis(20);
/// Longer than the member waits between two looks for what a compaction has left.
const REST: Duration = Duration::from_millis(1500);
const LEASE_TTL: Duration = Duration::from_secs(3600);

fn key(number: usize) -> Bytes {
    Bytes::from(format!("k{}", number % 5))
}

fn put(number: usize, bytes: usize, lease: i64) -> Op {
    let value = format!("{number:0bytes$}").into();
    Op::Put(Put { key: key(number), value, lease: LeaseId(lease), ..Put::default() })
}

fn delete(from: usize, before: usize) -> Op {
    let range = KeyRange { start: key(from), end: RangeEnd::Before(key(before)) };
    Op::DeleteRange(DeleteRange { range, prev_kv: true })
}

fn both(one: Op, other: Op) -> Step {
    Step::Txn(Txn { success: vec![one, other], ..Txn::default() })
}

/// Fills a few segments, and meets purges, snapshots, compactions with their collection, and leases.
pub fn script() -> Vec<Step> {
    let mut steps = Vec::new();
    for round in 0..4 {
        let number = |step: usize| round * 10 + step;
        let lease = i64::try_from(round).unwrap() + 1;
        steps.push(Step::Grant(lease));
        steps.extend((0..4).map(|step| Step::Txn(Txn::of(put(number(step), 900 * step + 10, 0)))));
        steps.push(Step::Txn(Txn::of(put(number(4), 10, lease))));
        steps.push(both(put(number(5), 3000, 0), put(number(6), 10, lease)));
        steps.push(Step::Txn(Txn::of(delete(1, 3))));
        steps.push(both(delete(3, 4), put(number(7), 10, 0)));
        if round % 2 == 1 {
            steps.extend([Step::Revoke(lease), Step::CompactBehind(4)]);
        }
        steps.extend([Step::Rest, Step::Txn(Txn::of(put(number(8), 500, 0)))]);
    }
    steps
}

/// Does steps in order and counts those that were acknowledged.
pub async fn perform(member: &Member, steps: &[Step], acknowledged: &Cell<usize>) {
    for step in steps {
        while let Err(error) = attempt(member, step).await {
            // All others leave it open whether the step was done.
            assert_eq!(error, KvError::NoLeader, "{step:?}");
            tokio::time::sleep(RETRY).await;
        }
        acknowledged.set(acknowledged.get() + 1);
    }
}

async fn attempt(member: &Member, step: &Step) -> Result<(), KvError> {
    match step {
        Step::Txn(txn) => member.txn(txn.clone()).await.map(drop),
        Step::Grant(id) => member.lease_grant(LeaseId(*id), LEASE_TTL).await.map(drop),
        Step::Revoke(id) => member.lease_revoke(LeaseId(*id)).await,
        Step::CompactBehind(kept) => {
            let current = member.read_index().await?;
            member.compact(Revision(current.0 - kept)).await
        }
        Step::Rest => {
            tokio::time::sleep(REST).await;
            Ok(())
        }
    }
}

/// All that can be seen of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    pub revision: Revision,
    pub compacted: Revision,
    digest: u128,
    rows: u32,
    leases: Vec<Lease>,
    /// The whole key space at each revision that can be read.
    past: Vec<RangeResult>,
}

/// Looks at a store that has applied everything it ever acknowledged.
pub async fn look(member: &Member) -> Sight {
    while member.read_index().await.is_err() {
        tokio::time::sleep(RETRY).await;
    }
    let mut sight = None;
    member.with_store(&mut |store| sight = Some(sight_of(store)));
    sight.unwrap()
}

fn sight_of(store: &Store) -> Sight {
    let (revision, compacted) = (store.current_revision(), store.compact_revision());
    let everything = KeyRange { start: Bytes::from_static(&[0]), end: RangeEnd::Unbounded };
    let read = |at| {
        let range = Range { revision: Some(Revision(at)), ..Range::new(everything.clone()) };
        store.range(&range).unwrap().unwrap()
    };
    Sight {
        revision,
        compacted,
        digest: store.digest(),
        rows: store.hash_rows(None).unwrap().unwrap(),
        leases: store.leases().cloned().collect(),
        past: (compacted.0.max(1)..=revision.0).map(read).collect(),
    }
}
