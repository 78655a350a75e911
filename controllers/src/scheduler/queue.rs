//! The pods that wait for a node: who is next, who waits for what.
//!
//! ```text
//!              add ──► gated ──(gates removed)──┐
//!               └───────────────► active ◄──────┴───────────┐
//!                                  │  pop                   │ backoff over
//!                                  ▼                        │
//!                              in flight ──(error)──────► backoff
//!                                  │ (no node does)         ▲
//!                                  ▼                        │ event that a rejecting plugin waits for,
//!                             unschedulable ────────────────┘ or 5 minutes
//! ```
//!
//! The queue reads no clock: `now` arrives with every call and never goes back. A pod is in exactly one place. The backoff
//! doubles with every attempt from 1 s to 10 s and runs from the end of the attempt.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::framework::PluginName;
use super::plugins::priority_sort::QueuePosition;
use super::pod_info::{PodInfo, PodKey};

/// Backoff after the first failed attempt.
pub const BACKOFF_INITIAL: Duration = Duration::from_secs(1);
/// Longest backoff.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// After so long without a helpful event a pod is tried all the same, in case an event was missed.
pub const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(5 * 60);

/// Whether a pod may be tried at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// A plugin holds it back.
    Closed,
}

/// How many pods wait where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PendingCounts {
    /// Ready to be tried.
    pub active: usize,
    /// Waiting for their backoff.
    pub backoff: usize,
    /// Waiting for a change of the cluster.
    pub unschedulable: usize,
    /// Held back by gates.
    pub gated: usize,
    /// Being bound.
    pub in_flight: usize,
}

/// The queue.
#[derive(Debug, Default)]
pub struct Queue {
    entries: HashMap<PodKey, Entry>,
    active: BTreeMap<QueuePosition, PodKey>,
    backoff: BTreeSet<(Instant, PodKey)>,
    unschedulable: BTreeSet<(Instant, PodKey)>,
    gated: BTreeSet<PodKey>,
    sequence: u64,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<PodInfo>,
    place: Place,
    attempts: u32,
    /// When the backoff of the last attempt ends.
    backoff_until: Option<Instant>,
    rejected_by: BTreeSet<PluginName>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Active(QueuePosition),
    Backoff(Instant),
    Unschedulable(Instant),
    Gated,
    InFlight,
}

impl Queue {
    /// Adds a pod, or takes over its new version. A version that differs in what placement depends on gets another try.
    pub fn set(&mut self, pod: Arc<PodInfo>, gate: Gate, now: Instant) {
        let key = pod.key.clone();
        let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.pod.uid == pod.uid) else {
            self.remove(&key);
            self.insert(pod, gate, now);
            return;
        };
        let is_same = entry.pod.places_like(&pod);
        let is_other_priority = entry.pod.priority() != pod.priority();
        entry.pod = pod;
        match (entry.place, gate) {
            (Place::InFlight, _) | (Place::Gated, Gate::Closed) => {}
            (Place::Gated, Gate::Open) => self.activate(&key, now),
            (_, Gate::Closed) => self.move_to(&key, Place::Gated),
            (Place::Active(_), Gate::Open) if is_other_priority => self.activate(&key, now),
            (Place::Active(_) | Place::Backoff(_), Gate::Open) => {}
            (Place::Unschedulable(_), Gate::Open) if is_same => {}
            (Place::Unschedulable(_), Gate::Open) => self.wake(&key, now),
        }
    }

    /// Removes a pod, wherever it is.
    pub fn remove(&mut self, key: &PodKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.leave(key, entry.place);
        }
    }

    /// Returns true when this very pod waits or is in flight.
    pub fn contains(&self, key: &PodKey, uid: &str) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.pod.uid == uid)
    }

    /// Takes out the next pod. It stays known as in flight until it is removed or comes back.
    pub fn pop(&mut self, now: Instant) -> Option<Arc<PodInfo>> {
        self.flush(now);
        let (_, key) = self.active.first_key_value()?;
        let key = key.clone();
        self.move_to(&key, Place::InFlight);
        let entry = self.entries.get_mut(&key)?;
        entry.attempts = entry.attempts.saturating_add(1);
        Some(entry.pod.clone())
    }

    /// Brings back a pod that no node does for; it waits for an event that one of `rejected_by` waits for.
    pub fn return_unschedulable(&mut self, key: &PodKey, rejected_by: BTreeSet<PluginName>, now: Instant) {
        if let Some(entry) = self.in_flight(key) {
            entry.backoff_until = Some(now + backoff(entry.attempts));
            entry.rejected_by = rejected_by;
            self.move_to(key, Place::Unschedulable(now));
        }
    }

    /// Brings back a pod whose attempt failed for another reason; it is tried again after its backoff.
    pub fn return_failed(&mut self, key: &PodKey, now: Instant) {
        if let Some(entry) = self.in_flight(key) {
            let until = now + backoff(entry.attempts);
            entry.backoff_until = Some(until);
            self.move_to(key, Place::Backoff(until));
        }
    }

    /// Wakes the unschedulable pods that `is_helped`, given a pod and the plugins that rejected it, says may fit now.
    pub fn on_event(&mut self, now: Instant, is_helped: impl Fn(&PodInfo, &BTreeSet<PluginName>) -> bool) {
        let waiting = self.unschedulable.iter().map(|(_, key)| key);
        let helped: Vec<PodKey> = waiting
            .filter(|key| {
                self.entries.get(*key).is_some_and(|entry| is_helped(&entry.pod, &entry.rejected_by))
            })
            .cloned()
            .collect();
        helped.iter().for_each(|key| self.wake(key, now));
    }

    /// Returns when `pop` may have a pod that it has not now; `None` while only events can help.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let backoff = self.backoff.first().map(|(until, _)| *until);
        let unschedulable = self.unschedulable.first().map(|(since, _)| *since + UNSCHEDULABLE_MAX);
        backoff.into_iter().chain(unschedulable).min()
    }

    /// Returns how many pods wait where.
    pub fn counts(&self) -> PendingCounts {
        let waiting = self.active.len() + self.backoff.len() + self.unschedulable.len() + self.gated.len();
        PendingCounts {
            active: self.active.len(),
            backoff: self.backoff.len(),
            unschedulable: self.unschedulable.len(),
            gated: self.gated.len(),
            in_flight: self.entries.len() - waiting,
        }
    }

    /// Moves the pods whose time has come to the active queue.
    fn flush(&mut self, now: Instant) {
        while let Some(key) =
            self.backoff.first().filter(|(until, _)| *until <= now).map(|(_, key)| key.clone())
        {
            self.activate(&key, now);
        }
        let is_stale = |since: Instant| now.saturating_duration_since(since) >= UNSCHEDULABLE_MAX;
        while let Some(key) =
            self.unschedulable.first().filter(|(since, _)| is_stale(*since)).map(|(_, key)| key.clone())
        {
            self.activate(&key, now);
        }
    }

    fn insert(&mut self, pod: Arc<PodInfo>, gate: Gate, now: Instant) {
        let key = pod.key.clone();
        let entry = Entry {
            pod,
            place: Place::InFlight,
            attempts: 0,
            backoff_until: None,
            rejected_by: BTreeSet::new(),
        };
        self.entries.insert(key.clone(), entry);
        match gate {
            Gate::Open => self.activate(&key, now),
            Gate::Closed => self.move_to(&key, Place::Gated),
        }
    }

    fn in_flight(&mut self, key: &PodKey) -> Option<&mut Entry> {
        self.entries.get_mut(key).filter(|entry| matches!(entry.place, Place::InFlight))
    }

    /// Ends the wait for an event; what is left of the backoff is still waited for.
    fn wake(&mut self, key: &PodKey, now: Instant) {
        let until = self.entries.get(key).and_then(|entry| entry.backoff_until).filter(|until| *until > now);
        match until {
            Some(until) => self.move_to(key, Place::Backoff(until)),
            None => self.activate(key, now),
        }
    }

    fn activate(&mut self, key: &PodKey, now: Instant) {
        let Some(entry) = self.entries.get(key) else { return };
        let position = QueuePosition::new(entry.pod.priority(), now, self.sequence);
        self.sequence += 1;
        self.move_to(key, Place::Active(position));
    }

    fn move_to(&mut self, key: &PodKey, place: Place) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let left = std::mem::replace(&mut entry.place, place);
        self.leave(key, left);
        match place {
            Place::Active(position) => drop(self.active.insert(position, key.clone())),
            Place::Backoff(until) => drop(self.backoff.insert((until, key.clone()))),
            Place::Unschedulable(since) => drop(self.unschedulable.insert((since, key.clone()))),
            Place::Gated => drop(self.gated.insert(key.clone())),
            Place::InFlight => {}
        }
    }

    fn leave(&mut self, key: &PodKey, place: Place) {
        match place {
            Place::Active(position) => drop(self.active.remove(&position)),
            Place::Backoff(until) => drop(self.backoff.remove(&(until, key.clone()))),
            Place::Unschedulable(since) => drop(self.unschedulable.remove(&(since, key.clone()))),
            Place::Gated => drop(self.gated.remove(key)),
            Place::InFlight => {}
        }
    }
}

fn backoff(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(8);
    (BACKOFF_INITIAL * 2_u32.pow(doublings)).min(BACKOFF_MAX)
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
