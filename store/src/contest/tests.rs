//! Contests over a store in memory, in paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use tokio::task::JoinHandle;

use super::contender::Won;
use super::*;
use crate::kv::{Consistency, Kv, WatchQuery};
use crate::memory::MemoryStore;
use crate::mvcc::{KeyRange, KeyValue, LeaseId, Range};

const LONG: Duration = Duration::from_secs(100_000);

/// A store with a way to enter contests; every contender is a task.
struct Setting {
    store: MemoryStore,
    contests: Contests,
}

impl Setting {
    fn new() -> Self {
        let store = MemoryStore::new();
        let contests = Contests::new(Arc::new(store.clone()));
        Self { store, contests }
    }

    async fn grant(&self, lease: i64, ttl: Duration) -> LeaseId {
        self.store.lease_grant(LeaseId(lease), ttl).await.unwrap().id
    }

    fn start(&self, lease: LeaseId) -> JoinHandle<Result<Won, ContestError>> {
        let contests = self.contests.clone();
        let application = Application { name: "lk".into(), lease, value: None };
        tokio::spawn(async move { contests.win(application).await })
    }

    async fn entries(&self) -> Vec<KeyValue> {
        let range = Range::new(KeyRange::prefix("lk/"));
        self.store.range(range, Consistency::Linearizable).await.unwrap().kvs
    }

    /// Waits until the entries are those of these leases.
    async fn entered(&self, leases: &[LeaseId]) {
        let mut changes = self.store.watch(WatchQuery::new(KeyRange::prefix("lk/"))).await.unwrap();
        let mut expected = leases.to_vec();
        expected.sort();
        loop {
            let mut found: Vec<LeaseId> = self.entries().await.iter().map(|entry| entry.lease).collect();
            found.sort();
            if found == expected {
                return;
            }
            changes.next().await.unwrap().unwrap();
        }
    }

    /// Gives a name up that was won.
    async fn leave(&self, won: &Won) {
        assert!(self.store.txn(won.place.leave()).await.unwrap().succeeded);
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_has_one_owner_at_a_time_however_many_want_it() {
    let setting = Setting::new();
    // Two members serve the same store.
    let others = Contests::new(Arc::new(setting.store.clone()));
    let owners = Arc::new(AtomicUsize::new(0));
    let mut contenders = Vec::new();
    for lease in 1..=20 {
        let lease = setting.grant(lease, LONG).await;
        let contests = if lease.0 % 2 == 0 { &setting.contests } else { &others }.clone();
        let (store, owners) = (setting.store.clone(), Arc::clone(&owners));
        contenders.push(tokio::spawn(async move {
            for _ in 0..5 {
                let application = Application { name: "lk".into(), lease, value: None };
                let won = contests.win(application).await.unwrap();
                assert_eq!(owners.fetch_add(1, Ordering::SeqCst), 0, "{lease:?} is not alone");
                tokio::time::sleep(Duration::from_millis(1)).await;
                owners.fetch_sub(1, Ordering::SeqCst);
                assert!(store.txn(won.place.leave()).await.unwrap().succeeded);
            }
        }));
    }
    for contender in contenders {
        contender.await.unwrap();
    }
    assert_eq!(setting.entries().await, []);
}

#[tokio::test(start_paused = true)]
async fn waiters_win_in_the_order_in_which_they_entered() {
    let setting = Setting::new();
    let (mut leases, mut contenders) = (Vec::new(), Vec::new());
    for lease in [5, 3, 9, 1] {
        leases.push(setting.grant(lease, LONG).await);
        contenders.push(setting.start(LeaseId(lease)));
        setting.entered(&leases).await;
    }
    for contender in contenders {
        let won = contender.await.unwrap().unwrap();
        assert_eq!(won.place.lease, leases.remove(0));
        setting.entered(&[&[won.place.lease], leases.as_slice()].concat()).await;
        setting.leave(&won).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_goes_away_leaves_nothing_and_its_follower_still_waits_for_the_owner() {
    let setting = Setting::new();
    let [a, b, c] =
        [setting.grant(1, LONG).await, setting.grant(2, LONG).await, setting.grant(3, LONG).await];
    let owner = setting.start(a).await.unwrap().unwrap();
    let middle = setting.start(b);
    setting.entered(&[a, b]).await;
    let last = setting.start(c);
    setting.entered(&[a, b, c]).await;
    middle.abort();
    setting.entered(&[a, c]).await;
    assert!(!last.is_finished());
    setting.leave(&owner).await;
    assert_eq!(last.await.unwrap().unwrap().place.lease, c);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_owners_lease_hands_the_name_over() {
    let setting = Setting::new();
    let owner = setting.start(setting.grant(1, Duration::from_secs(5)).await).await.unwrap().unwrap();
    let next = setting.start(setting.grant(2, LONG).await).await.unwrap().unwrap();
    assert!(next.won > owner.won);
    assert!(!setting.store.txn(owner.place.leave()).await.unwrap().succeeded, "it is gone already");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_lease_ended_does_not_win() {
    let setting = Setting::new();
    let a = setting.grant(1, LONG).await;
    let owner = setting.start(a).await.unwrap().unwrap();
    let b = setting.grant(2, Duration::from_secs(5)).await;
    let waiter = setting.start(b);
    setting.entered(&[a, b]).await;
    setting.entered(&[a]).await;
    setting.leave(&owner).await;
    assert_eq!(waiter.await.unwrap(), Err(ContestError::SessionExpired));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_lease_ended_does_not_take_an_earlier_entry_for_its_own() {
    let setting = Setting::new();
    let a = setting.grant(1, LONG).await;
    let _owner = setting.start(a).await.unwrap().unwrap();
    let b = setting.grant(2, Duration::from_secs(20)).await;
    let second = setting.start(b);
    setting.entered(&[a, b]).await;
    let c = setting.grant(3, Duration::from_secs(5)).await;
    let third = setting.start(c);
    setting.entered(&[a, b, c]).await;
    // The third waits for the second, and looks again when that one goes.
    setting.entered(&[a, b]).await;
    setting.entered(&[a]).await;
    assert_eq!(third.await.unwrap(), Err(ContestError::SessionExpired));
    assert_eq!(second.await.unwrap(), Err(ContestError::SessionExpired));
}

#[tokio::test(start_paused = true)]
async fn a_session_of_the_servers_lives_while_its_call_waits_and_a_minute_longer() {
    let setting = Setting::new();
    let a = setting.grant(1, LONG).await;
    let owner = setting.start(a).await.unwrap().unwrap();
    let waiter = setting.start(LeaseId::NONE);
    tokio::time::sleep(Duration::from_secs(600)).await;
    setting.leave(&owner).await;
    let won = waiter.await.unwrap().unwrap();
    setting.entered(&[won.place.lease]).await;
    let before = tokio::time::Instant::now();
    setting.entered(&[]).await;
    let lived = before.elapsed();
    assert!(lived > Duration::from_secs(30) && lived < Duration::from_secs(70), "{lived:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_goes_away_ends_the_session_that_was_made_for_it() {
    let setting = Setting::new();
    let a = setting.grant(1, LONG).await;
    let _owner = setting.start(a).await.unwrap().unwrap();
    let waiter = setting.start(LeaseId::NONE);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(setting.store.leases().await.unwrap().len(), 2);
    waiter.abort();
    setting.entered(&[a]).await;
    assert_eq!(setting.store.leases().await.unwrap(), [a]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_asks_again_at_once_does_not_meet_its_own_cleanup() {
    let setting = Setting::new();
    let (a, b) = (setting.grant(1, LONG).await, setting.grant(2, LONG).await);
    let owner = setting.start(a).await.unwrap().unwrap();
    let first = setting.start(b);
    setting.entered(&[a, b]).await;
    first.abort();
    let again = setting.start(b);
    setting.leave(&owner).await;
    let won = again.await.unwrap().unwrap();
    assert_eq!(setting.entries().await[0].create_revision, won.place.created);
}

#[tokio::test(start_paused = true)]
async fn winning_what_one_has_is_answered_at_once() {
    let setting = Setting::new();
    let a = setting.grant(1, LONG).await;
    let (first, second) = (setting.start(a).await.unwrap(), setting.start(a).await.unwrap());
    assert_eq!(first, second);
    let missing = setting.start(LeaseId(99)).await.unwrap();
    assert_eq!(missing, Err(ContestError::Kv(KvError::LeaseNotFound)));
}

#[tokio::test(start_paused = true)]
async fn a_wait_outlives_a_compaction_of_everything_it_saw() {
    let setting = Setting::new();
    let (a, b) = (setting.grant(1, LONG).await, setting.grant(2, LONG).await);
    let owner = setting.start(a).await.unwrap().unwrap();
    let waiter = setting.start(b);
    setting.entered(&[a, b]).await;
    setting.leave(&owner).await;
    setting.store.compact(setting.store.status().revision).await.unwrap();
    assert_eq!(waiter.await.unwrap().unwrap().place.lease, b);
}
