//! The hub's bookkeeping, without lock or task: who watches what, what waits for whom, who has fallen behind.
//!
//! ```text
//!            queue overflows, or the state was replaced
//!   Synced ────────────────────────────────────────────► Lagging
//!      ▲                                                    │ reads the ring, or rows when the ring has moved on
//!      └────────────────────────────────────────────────────┘ reached the hub's head, in one step with it
//! ```
//!
//! `next` of a watcher is its first revision that is not delivered. Whatever a watcher is handed, it drops revisions below
//! `next`, so publishing late or twice cannot repeat an event.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use super::matcher::Matcher;
use crate::kv::ProgressMode;
use crate::mvcc::{Event, KeyRange, Revision, RevisionEvents};

/// Number of a watcher within its hub; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WatcherId(pub(super) u64);

/// What the hub keeps for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Recent revisions kept for watchers that start a little behind or fall behind.
    pub ring_bytes_max: usize,
    /// Most waiting for one watcher; beyond it the watcher reads by itself at its own speed.
    pub queue_revisions_max: usize,
    pub queue_bytes_max: usize,
    /// Most handed over at once, so that one busy watcher does not hold the hub for long.
    pub take_revisions_max: usize,
    pub take_bytes_max: usize,
}

impl Default for Limits {
    /// The ring covers seconds of heavy writing.
    fn default() -> Self {
        Self {
            ring_bytes_max: 32 << 20,
            queue_revisions_max: 1024,
            queue_bytes_max: 4 << 20,
            take_revisions_max: 256,
            take_bytes_max: 1 << 20,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    Synced,
    Lagging,
}

#[derive(Debug)]
struct Entry {
    range: KeyRange,
    sync: Sync,
    next: Revision,
    queue: VecDeque<Arc<RevisionEvents>>,
    queued_bytes: usize,
    mode: ProgressMode,
    progress_requested: bool,
    /// Highest revision that was delivered as progress or event.
    reported: Option<Revision>,
    waker: Option<Waker>,
}

/// A new subscription.
#[derive(Clone, Debug)]
pub(super) struct NewWatcher {
    pub(super) range: KeyRange,
    pub(super) next: Revision,
    pub(super) mode: ProgressMode,
}

/// What a watcher finds when it looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Matching revisions, in order; filter their events by the watcher's range.
    Revisions(Vec<Arc<RevisionEvents>>),
    Progress(Revision),
    /// The ring does not reach back: read rows from here, then report with [`Core::caught_up`].
    Behind {
        next: Revision,
    },
    /// Nothing now; the waker is kept.
    Nothing,
    Closed,
}

/// All watchers and the recent past.
#[derive(Debug)]
pub(super) struct Core {
    limits: Limits,
    head: Revision,
    ring: VecDeque<Arc<RevisionEvents>>,
    ring_bytes: usize,
    watchers: BTreeMap<WatcherId, Entry>,
    matcher: Matcher,
    /// Watchers that want to hear of every revision, matching or not.
    followers: BTreeSet<WatcherId>,
    last_id: u64,
    closed: bool,
}

impl Core {
    pub(super) fn new(head: Revision, limits: Limits) -> Self {
        Self {
            limits,
            head,
            ring: VecDeque::new(),
            ring_bytes: 0,
            watchers: BTreeMap::new(),
            matcher: Matcher::default(),
            followers: BTreeSet::new(),
            last_id: 0,
            closed: false,
        }
    }

    pub(super) fn head(&self) -> Revision {
        self.head
    }

    pub(super) fn watcher_count(&self) -> usize {
        self.watchers.len()
    }

    pub(super) fn add(&mut self, new: NewWatcher) -> WatcherId {
        self.last_id += 1;
        let id = WatcherId(self.last_id);
        self.matcher.insert(&new.range, id);
        if new.mode == ProgressMode::Automatic {
            self.followers.insert(id);
        }
        let entry = Entry {
            range: new.range,
            sync: if new.next > self.head { Sync::Synced } else { Sync::Lagging },
            next: new.next,
            queue: VecDeque::new(),
            queued_bytes: 0,
            mode: new.mode,
            progress_requested: false,
            reported: None,
            waker: None,
        };
        self.watchers.insert(id, entry);
        id
    }

    pub(super) fn remove(&mut self, id: WatcherId) {
        if let Some(entry) = self.watchers.remove(&id) {
            self.matcher.remove(&entry.range, id);
            self.followers.remove(&id);
        }
    }

    /// Takes in the next revision and returns whom to wake.
    pub(super) fn publish(&mut self, revision: Arc<RevisionEvents>) -> Vec<Waker> {
        assert_eq!(revision.revision, self.head.next(), "revisions are published in order, each once");
        self.head = revision.revision;
        let size = size_of_revision(&revision);
        let mut matched = self.followers.clone();
        for event in &revision.events {
            self.matcher.each_match(&event.kv.key, |id| {
                matched.insert(id);
            });
        }
        let mut wakers = Vec::new();
        for id in matched {
            let Some(entry) = self.watchers.get_mut(&id) else { continue };
            entry.offer(&revision, size, self.limits);
            wakers.extend(entry.waker.take());
        }
        self.remember(revision, size);
        wakers
    }

    fn remember(&mut self, revision: Arc<RevisionEvents>, size: usize) {
        self.ring_bytes += size;
        self.ring.push_back(revision);
        while self.ring_bytes > self.limits.ring_bytes_max {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.ring_bytes -= size_of_revision(&oldest);
        }
    }

    /// Forgets the recent past because the whole state was replaced and stands at `head` now. Everyone reads on from rows.
    pub(super) fn reset(&mut self, head: Revision) -> Vec<Waker> {
        let covered = self.head;
        self.head = head;
        self.ring.clear();
        self.ring_bytes = 0;
        self.watchers
            .values_mut()
            .filter_map(|entry| {
                if entry.sync == Sync::Synced {
                    entry.fall_behind(covered);
                }
                if entry.next > head {
                    entry.sync = Sync::Synced;
                }
                entry.waker.take()
            })
            .collect()
    }

    /// Ends all watches.
    pub(super) fn close(&mut self) -> Vec<Waker> {
        self.closed = true;
        self.watchers.values_mut().filter_map(|entry| entry.waker.take()).collect()
    }

    /// Makes a watcher report progress once it is synced.
    pub(super) fn request_progress(&mut self, id: WatcherId) -> Option<Waker> {
        let entry = self.watchers.get_mut(&id)?;
        entry.progress_requested = true;
        entry.waker.take()
    }

    /// Returns what there is for a watcher, or keeps its waker.
    pub(super) fn take(&mut self, id: WatcherId, waker: &Waker) -> Taken {
        if self.closed {
            return Taken::Closed;
        }
        let entry = self.watchers.get_mut(&id).expect("a watcher is removed only when it is dropped");
        if entry.sync == Sync::Lagging {
            let oldest = self.ring.front().map_or(self.head.next(), |oldest| oldest.revision);
            if entry.next < oldest {
                return Taken::Behind { next: entry.next };
            }
            entry.read_ring(&self.ring, self.head, self.limits);
        }
        let revisions = entry.take_queue(self.limits);
        if !revisions.is_empty() {
            return Taken::Revisions(revisions);
        }
        if entry.sync == Sync::Lagging {
            // The ring held nothing for this watcher up to where it looked; it goes on at the next call.
            waker.wake_by_ref();
            return Taken::Nothing;
        }
        if let Some(progress) = entry.take_progress(self.head) {
            return Taken::Progress(progress);
        }
        entry.waker = Some(waker.clone());
        Taken::Nothing
    }

    /// Notes that a lagging watcher has read all rows up to `through`, and which revision it reports for that, if it found any events.
    pub(super) fn caught_up(&mut self, id: WatcherId, through: Revision, reported: Option<Revision>) {
        let Some(entry) = self.watchers.get_mut(&id) else { return };
        entry.next = entry.next.max(through.next());
        entry.reported = reported.or(entry.reported);
        if entry.next > self.head {
            entry.sync = Sync::Synced;
        }
    }
}

impl Entry {
    /// Queues a revision that matches, or that only moves progress on.
    fn offer(&mut self, revision: &Arc<RevisionEvents>, size: usize, limits: Limits) {
        if self.sync == Sync::Lagging || revision.revision < self.next || !self.wants(revision) {
            return;
        }
        if self.queue.len() >= limits.queue_revisions_max || self.queued_bytes + size > limits.queue_bytes_max
        {
            let covered = Revision(revision.revision.0 - 1);
            // A revision too big for any queue is read from the ring.
            self.fall_behind(covered);
            return;
        }
        self.queued_bytes += size;
        self.queue.push_back(Arc::clone(revision));
    }

    fn wants(&self, revision: &RevisionEvents) -> bool {
        revision.events.iter().any(|event| self.range.contains(&event.kv.key))
    }

    /// Drops the queue but not the place: reading goes on at the first revision that was not taken.
    fn fall_behind(&mut self, covered: Revision) {
        let first_lost = self.queue.front().map_or(covered.next(), |revision| revision.revision);
        self.next = self.next.max(first_lost);
        self.queue.clear();
        self.queued_bytes = 0;
        self.sync = Sync::Lagging;
    }

    /// Fills the queue of a lagging watcher from the ring, and makes it synced when that reaches the head.
    fn read_ring(&mut self, ring: &VecDeque<Arc<RevisionEvents>>, head: Revision, limits: Limits) {
        let start = ring.partition_point(|revision| revision.revision < self.next);
        let mut bytes = 0;
        for revision in ring.range(start..) {
            if self.queue.len() >= limits.take_revisions_max || bytes >= limits.take_bytes_max {
                return;
            }
            if self.wants(revision) {
                let size = size_of_revision(revision);
                bytes += size;
                self.queued_bytes += size;
                self.queue.push_back(Arc::clone(revision));
            }
            self.next = revision.revision.next();
        }
        assert!(self.next > head, "the ring ends at the head");
        self.sync = Sync::Synced;
    }

    fn take_queue(&mut self, limits: Limits) -> Vec<Arc<RevisionEvents>> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        while taken.len() < limits.take_revisions_max && bytes < limits.take_bytes_max {
            let Some(revision) = self.queue.pop_front() else { break };
            let size = size_of_revision(&revision);
            bytes += size;
            self.queued_bytes -= size;
            self.next = self.next.max(revision.revision.next());
            self.reported = Some(revision.revision);
            taken.push(revision);
        }
        taken
    }

    /// Returns the head once the watcher has everything up to it and its start is not in the future.
    fn take_progress(&mut self, head: Revision) -> Option<Revision> {
        if self.next > head.next() {
            return None;
        }
        let news =
            self.mode == ProgressMode::Automatic && self.reported.is_none_or(|reported| reported < head);
        if !news && !self.progress_requested {
            return None;
        }
        self.progress_requested = false;
        self.next = head.next();
        self.reported = Some(head);
        Some(head)
    }
}

fn size_of_revision(revision: &RevisionEvents) -> usize {
    let kv_size = |kv: &crate::mvcc::KeyValue| kv.key.len() + kv.value.len();
    let event_size =
        |event: &Event| size_of::<Event>() + kv_size(&event.kv) + event.prev.as_ref().map_or(0, kv_size);
    revision.events.iter().map(event_size).sum()
}
