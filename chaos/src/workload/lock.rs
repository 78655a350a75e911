//! The lock workload: a list outside of the lock is changed by whoever holds it; some hold it for longer than their lease lives.
//!
//! The lock is a key that only one can create, with a lease of the holder's. Two locks guard one list each. Whoever holds the
//! fenced one changes its list only on condition that the lock's key is still the own one; the other list is written
//! without looking. A client that stops for longer than its lease lives, as a paused process does, loses its lock without
//! knowing. So the unfenced list must lose updates: it is a canary that shows that the pauses are real. No store can prevent this.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::values::{Counter, first, read, unchanged, write};
use super::{Client, Entry, Setup, Tier, Workload};
use crate::check::lock::{Lock, list_key};
use crate::history::{Compare, CompareTarget, Put, Relation, Request, Response, Txn};

pub(super) const ENTRY: Entry = Entry {
    name: "lock",
    about: "a list is changed under a lock, with fencing and without; some pause for longer than the lock lives",
    checkers: &["lock", "witness", "convergence"],
    needs_own_store: false,
    tier: Tier::Store,
    create: |setup| Arc::new(Locks { generator: Mutex::new(Generator::new(setup)) }),
};

/// Seconds that the lease of a holder is asked for: the least that stores give with usual election timeouts.
const TTL: i64 = 2;
/// Longer than a lease lives: whoever stops for so long has lost the lock.
const PAUSE: Duration = Duration::from_secs(4);

struct Locks {
    generator: Mutex<Generator>,
}

impl Locks {
    fn generator(&self) -> MutexGuard<'_, Generator> {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries to take a lock, and if it gets it, changes the list and gives it back.
    async fn section(&self, client: &mut Client) -> std::io::Result<()> {
        let section = self.generator().next_section();
        let Section { lock, key, list, element, pauses } = section;
        let Ok((lease, _)) = client.lease_grant(TTL).await? else { return Ok(()) };
        let holder = Put { key: key.clone(), value: element.to_string(), lease: lease.id, prev_kv: false };
        let take = Request::Txn(Txn {
            compares: vec![unchanged(&key, 0)],
            then: vec![Request::Put(holder)],
            otherwise: Vec::new(),
        });
        if let Ok((Response::Txn { succeeded: true, .. }, created)) = client.exchange(&take).await?
            && let Ok((answer, _)) = client.exchange(&read(&list)).await?
        {
            if pauses {
                tokio::select! {
                    () = client.stopped() => {}
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
            let grown = match first(&answer) {
                Some(state) => format!("{} {element}", state.value),
                None => element.to_string(),
            };
            let _ = client.exchange(&change(lock, &key, created, write(&list, grown))).await?;
        }
        let _ = client.lease_revoke(lease.id).await?;
        Ok(())
    }
}

fn change(lock: Lock, key: &str, created: i64, put: Request) -> Request {
    match lock {
        Lock::Unfenced => put,
        Lock::Fenced => {
            let target = CompareTarget::CreateRevision(created);
            let is_mine = Compare { key: key.to_owned(), end: None, target, relation: Relation::Equal };
            Request::Txn(Txn { compares: vec![is_mine], then: vec![put], otherwise: Vec::new() })
        }
    }
}

#[async_trait]
impl Workload for Locks {
    async fn work(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        while client.turn().await {
            self.section(&mut client).await?;
        }
        Ok(())
    }

    async fn finish(self: Arc<Self>, mut client: Client) -> std::io::Result<()> {
        let lists = self.generator().lists();
        for list in lists {
            let _ = client.exchange(&read(&list)).await?;
        }
        Ok(())
    }
}

/// One try to change a list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Section {
    lock: Lock,
    key: String,
    list: String,
    element: u64,
    pauses: bool,
}

/// Draws sections from a seed.
struct Generator {
    prefix: String,
    random: StdRng,
    elements: Counter,
}

/// Tries after which a list is retired: most do not get the lock, and a pause must end before.
const TRIES_PER_LIST: u64 = 5000;

impl Generator {
    fn new(setup: &Setup) -> Self {
        let random = StdRng::seed_from_u64(setup.seed);
        Self { prefix: setup.prefix.clone(), random, elements: Counter::default() }
    }

    fn next_section(&mut self) -> Section {
        let lock = if self.random.random_bool(0.5) { Lock::Fenced } else { Lock::Unfenced };
        let element = self.elements.next();
        let key = format!("{}lock/{}", self.prefix, lock.name());
        let list = list_key(&self.prefix, lock, element / TRIES_PER_LIST);
        Section { lock, key, list, element, pauses: self.random.random_bool(0.15) }
    }

    fn lists(&self) -> Vec<String> {
        let numbers = 0..=self.elements.last() / TRIES_PER_LIST;
        let locks = [Lock::Fenced, Lock::Unfenced];
        numbers.flat_map(|number| locks.map(|lock| list_key(&self.prefix, lock, number))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_locks_are_taken_and_some_pause() {
        let mut generator = Generator::new(&Setup { seed: 1, prefix: String::new(), members: 3 });
        let sections: Vec<Section> = (0..300).map(|_| generator.next_section()).collect();
        let known = generator.lists();
        for lock in [Lock::Fenced, Lock::Unfenced] {
            let paused = sections.iter().filter(|section| section.lock == lock && section.pauses).count();
            assert!(paused > 5, "{paused}");
        }
        assert!(sections.iter().all(|section| known.contains(&section.list)));
    }
}
