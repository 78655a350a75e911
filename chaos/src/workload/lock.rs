//! The lock workload: a list outside of the lock is changed by whoever holds it; some hold it for longer than their lease lives.
//!
//! Each lock guards a list, and its holder a lease. Two are keys that only one can create. Whoever holds the fenced one changes its list
//! only on condition that the lock's key is still the own one; the other list is written without looking. A client that stops for longer than its
//! lease lives, as a paused process does, loses its lock without knowing. So the unfenced list must lose updates: it is a canary that
//! shows that the pauses are real. No store can prevent this. The third lock is one of the lock service's, fenced too: there callers wait, and
//! now and then another client ends the lease of one who does.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::values::{Counter, first, read, unchanged, write};
use super::{Client, Entry, Nodes, Setup, Tier, Workload};
use crate::check::lock::{Lock, list_key};
use crate::history::{Compare, CompareTarget, LockAnswer, Put, Relation, Request, Response, Txn};

pub(super) const ENTRY: Entry = Entry {
    name: "lock",
    about: "a list is changed under a lock, one's own or the lock service's; some pause for longer than the lock lives",
    checkers: &["lock", "witness", "convergence"],
    needs_own_store: false,
    tier: Tier::Store,
    nodes: Nodes::Hollow,
    create: |setup| {
        Arc::new(Locks { generator: Mutex::new(Generator::new(setup)), waiting: Mutex::default() })
    },
};

/// Seconds that the lease of a holder is asked for: the least that stores give with usual election timeouts.
const TTL: i64 = 2;
/// Longer than a lease lives: whoever stops for so long has lost the lock.
const PAUSE: Duration = Duration::from_secs(4);

struct Locks {
    generator: Mutex<Generator>,
    /// Leases of those who wait for a lock of the lock service's, or have just got it.
    waiting: Mutex<BTreeSet<i64>>,
}

impl Locks {
    fn generator(&self) -> MutexGuard<'_, Generator> {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeSet<i64>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries to take a lock, and if it gets it, changes the list and gives it back.
    async fn section(&self, client: &mut Client) -> std::io::Result<()> {
        let section = self.generator().next_section();
        let other = self.waiting().first().copied().filter(|_| section.ends_another);
        if let Some(other) = other {
            let _ = client.lease_revoke(other).await?;
            return Ok(());
        }
        let Ok((lease, _)) = client.lease_grant(TTL).await? else { return Ok(()) };
        let holds = match section.lock {
            Lock::Served => {
                self.waiting().insert(lease.id);
                let holds = wait_for(client, &section, lease.id).await;
                self.waiting().remove(&lease.id);
                holds?
            }
            Lock::Fenced | Lock::Unfenced => take(client, &section, lease.id).await?,
        };
        let Section { lock, list, element, pauses, unlocks, .. } = section;
        if let Some(holds) = holds
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
            let key = holds.key.clone();
            let _ = client.exchange(&change(lock, holds, write(&list, grown))).await?;
            if lock == Lock::Served && unlocks {
                let _ = client.unlock(&key).await?;
            }
        }
        let _ = client.lease_revoke(lease.id).await?;
        Ok(())
    }
}

/// Creates the lock's key, if it is not there; returns the condition that holds while it is the own one.
async fn take(client: &mut Client, section: &Section, lease: i64) -> std::io::Result<Option<Compare>> {
    let key = section.name.clone();
    let holder = Put { key: key.clone(), value: section.element.to_string(), lease, prev_kv: false };
    let take = Request::Txn(Txn {
        compares: vec![unchanged(&key, 0)],
        then: vec![Request::Put(holder)],
        otherwise: Vec::new(),
    });
    let answer = client.exchange(&take).await?;
    let Ok((Response::Txn { succeeded: true, .. }, created)) = answer else { return Ok(None) };
    let target = CompareTarget::CreateRevision(created);
    Ok(Some(Compare { key, end: None, target, relation: Relation::Equal }))
}

/// Waits for a lock of the lock service's; returns the condition that holds while it is the own one.
async fn wait_for(client: &mut Client, section: &Section, lease: i64) -> std::io::Result<Option<Compare>> {
    let Ok((LockAnswer { key }, _)) = client.lock(&section.name, lease).await? else { return Ok(None) };
    // No two leases share a key: it is there while the caller holds the lock (etcd API, LockResponse.key).
    let target = CompareTarget::Version(0);
    Ok(Some(Compare { key, end: None, target, relation: Relation::Greater }))
}

fn change(lock: Lock, holds: Compare, put: Request) -> Request {
    match lock {
        Lock::Unfenced => put,
        Lock::Fenced | Lock::Served => {
            Request::Txn(Txn { compares: vec![holds], then: vec![put], otherwise: Vec::new() })
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
    name: String,
    list: String,
    element: u64,
    pauses: bool,
    /// Gives the lock back by its key, before its lease ends.
    unlocks: bool,
    /// Does nothing of this, but ends the lease of somebody who waits.
    ends_another: bool,
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
        // Whoever waits does nothing else: few do.
        let lock = match self.random.random_range(0..9_u8) {
            0..=3 => Lock::Fenced,
            4..=7 => Lock::Unfenced,
            _ => Lock::Served,
        };
        let element = self.elements.next();
        let name = format!("{}lock/{}", self.prefix, lock.name());
        let list = list_key(&self.prefix, lock, element / TRIES_PER_LIST);
        let mut draw = |chance| self.random.random_bool(chance);
        let (pauses, unlocks, ends_another) = (draw(0.15), draw(0.5), draw(0.1));
        Section { lock, name, list, element, pauses, unlocks, ends_another }
    }

    fn lists(&self) -> Vec<String> {
        let numbers = 0..=self.elements.last() / TRIES_PER_LIST;
        numbers.flat_map(|number| Lock::ALL.map(|lock| list_key(&self.prefix, lock, number))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lock_is_taken_and_some_pause() {
        let mut generator = Generator::new(&Setup { seed: 1, prefix: String::new(), members: 3 });
        let sections: Vec<Section> = (0..1000).map(|_| generator.next_section()).collect();
        let known = generator.lists();
        for lock in Lock::ALL {
            let paused = sections.iter().filter(|section| section.lock == lock && section.pauses).count();
            assert!(paused > 5, "{paused}");
        }
        assert!(sections.iter().all(|section| known.contains(&section.list)));
    }
}
