//! Which key to work on next. Pure: time comes in as an argument.
//!
//! Invariants: a key is handed out to one worker at a time; a key added while it is worked on comes back once
//! afterwards; a key that waits in several ways comes at the earliest of them.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// First pause after a failure.
const RETRY_FIRST: Duration = Duration::from_millis(5);
/// Longest pause of a key that keeps failing.
const RETRY_MAX: Duration = Duration::from_secs(1000);
/// 5 ms doubled 18 times is beyond `RETRY_MAX`; more only overflows.
const RETRY_DOUBLING_MAX: u32 = 18;

/// A queue of keys without duplicates, with delays and per-key back-off.
#[derive(Debug)]
pub struct WorkQueue<K> {
    ready: VecDeque<K>,
    waiting: HashSet<K>,
    taken: HashSet<K>,
    added_while_taken: HashSet<K>,
    delayed: BTreeSet<(Instant, K)>,
    due: HashMap<K, Instant>,
    failure_counts: HashMap<K, u32>,
}

impl<K: Clone + Eq + Hash + Ord> Default for WorkQueue<K> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            waiting: HashSet::new(),
            taken: HashSet::new(),
            added_while_taken: HashSet::new(),
            delayed: BTreeSet::new(),
            due: HashMap::new(),
            failure_counts: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord> WorkQueue<K> {
    /// Adds a key to be worked on as soon as possible.
    pub fn add(&mut self, key: K) {
        self.undelay(&key);
        if self.taken.contains(&key) {
            self.added_while_taken.insert(key);
        } else if self.waiting.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    /// Adds a key to be worked on at `at`, or earlier if it was due earlier.
    pub fn add_at(&mut self, key: K, at: Instant) {
        if self.waiting.contains(&key) || self.due.get(&key).is_some_and(|due| *due <= at) {
            return;
        }
        self.undelay(&key);
        self.due.insert(key.clone(), at);
        self.delayed.insert((at, key));
    }

    /// Adds a key that failed, later with each failure in a row.
    pub fn retry(&mut self, key: K, now: Instant) {
        let failure_count = self.failure_counts.entry(key.clone()).or_default();
        let pause = RETRY_FIRST * 2_u32.pow((*failure_count).min(RETRY_DOUBLING_MAX));
        *failure_count += 1;
        self.add_at(key, now + pause.min(RETRY_MAX));
    }

    /// Forgets the failures of a key.
    pub fn succeeded(&mut self, key: &K) {
        self.failure_counts.remove(key);
    }

    /// Takes the next key; it must be given back with [`WorkQueue::done`].
    pub fn take(&mut self, now: Instant) -> Option<K> {
        self.release_due(now);
        let key = self.ready.pop_front()?;
        self.waiting.remove(&key);
        self.taken.insert(key.clone());
        Some(key)
    }

    /// Gives a key back; if it was added meanwhile, it is ready again.
    pub fn done(&mut self, key: &K) {
        self.taken.remove(key);
        if self.added_while_taken.remove(key) {
            self.add(key.clone());
        }
    }

    /// Returns when the first delayed key is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.delayed.first().map(|(due, _)| *due)
    }

    /// Returns how many keys wait, delayed ones left out.
    pub fn ready_count(&self) -> usize {
        self.ready.len()
    }

    fn release_due(&mut self, now: Instant) {
        while self.next_due().is_some_and(|due| due <= now) {
            if let Some((_, key)) = self.delayed.pop_first() {
                self.due.remove(&key);
                self.add(key);
            }
        }
    }

    fn undelay(&mut self, key: &K) {
        if let Some(due) = self.due.remove(key) {
            self.delayed.remove(&(due, key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_taken_once_and_comes_back_if_added_meanwhile() {
        let now = Instant::now();
        let mut queue = WorkQueue::default();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.take(now), Some("a"));
        queue.add("a");
        assert_eq!(queue.take(now), None);
        queue.done(&"a");
        assert_eq!(queue.take(now), Some("a"));
        queue.done(&"a");
        assert_eq!(queue.take(now), None);
    }

    #[test]
    fn delayed_key_comes_at_its_earliest_time() {
        let now = Instant::now();
        let mut queue = WorkQueue::default();
        queue.add_at("a", now + Duration::from_secs(9));
        queue.add_at("a", now + Duration::from_secs(5));
        queue.add_at("a", now + Duration::from_secs(7));
        assert_eq!(queue.take(now), None);
        assert_eq!(queue.next_due(), Some(now + Duration::from_secs(5)));
        assert_eq!(queue.take(now + Duration::from_secs(5)), Some("a"));
        queue.done(&"a");
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn failures_double_the_pause_and_success_forgets_them() {
        let now = Instant::now();
        let mut queue = WorkQueue::default();
        let pause = |queue: &mut WorkQueue<&'static str>| {
            queue.retry("a", now);
            let due = queue.next_due().unwrap();
            queue.take(due).unwrap();
            queue.done(&"a");
            due - now
        };
        assert_eq!(pause(&mut queue), Duration::from_millis(5));
        assert_eq!(pause(&mut queue), Duration::from_millis(10));
        for _ in 0..40 {
            pause(&mut queue);
        }
        assert_eq!(pause(&mut queue), RETRY_MAX);
        queue.succeeded(&"a");
        assert_eq!(pause(&mut queue), Duration::from_millis(5));
    }
}
