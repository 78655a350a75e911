//! One watch beside what the model has published: every event once, in order, without gaps; progress behind all events.

use std::task::{Context, Poll, Waker};

use futures::StreamExt;

use super::reference::Reference;
use crate::kv::{KvError, ProgressMode, WatchItem, WatchQuery};
use crate::mvcc::{Event, Revision};
use crate::watch::Watcher;

/// A poll may end a piece of work without an item; a watcher that says so this often in a row waits for news.
const IDLE_POLLS: u32 = 3;

pub(super) struct Watching {
    watcher: Watcher,
    query: WatchQuery,
    /// Nothing below it may come.
    start: Revision,
    /// Everything below it has come.
    next: Revision,
    progress_asked: bool,
    /// Highest revision that an item has named.
    reported: Revision,
}

/// Whether the watch goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looked {
    Waits,
    Ended,
}

impl Watching {
    pub(super) fn new(watcher: Watcher, query: WatchQuery, current: Revision) -> Self {
        let start = query.start.unwrap_or_else(|| current.next());
        Self { watcher, query, start, next: start, progress_asked: false, reported: Revision(0) }
    }

    pub(super) fn ask_progress(&mut self) {
        self.watcher.progress_handle().request();
        self.progress_asked = true;
    }

    /// Takes what the watch has and checks each item, and that nothing is missing.
    pub(super) fn look(&mut self, reference: &Reference) -> Looked {
        let mut context = Context::from_waker(Waker::noop());
        let mut last_progress = None;
        let mut idle_polls = 0;
        while idle_polls < IDLE_POLLS {
            match self.watcher.poll_next_unpin(&mut context) {
                Poll::Ready(Some(Ok(WatchItem::Events { revision, events }))) => {
                    last_progress = None;
                    self.check_events(reference, revision, &events);
                }
                Poll::Ready(Some(Ok(WatchItem::Progress(revision)))) => {
                    last_progress = Some(revision);
                    self.check_progress(reference, revision);
                }
                Poll::Ready(Some(Err(error))) => {
                    self.check_error(reference, &error);
                    assert_eq!(self.watcher.poll_next_unpin(&mut context), Poll::Ready(None));
                    return Looked::Ended;
                }
                Poll::Ready(None) => panic!("a watch ended without a reason"),
                Poll::Pending => idle_polls += 1,
            }
        }
        self.check_complete(reference, last_progress);
        Looked::Waits
    }

    fn check_events(&mut self, reference: &Reference, revision: Revision, events: &[Event]) {
        assert!(!events.is_empty());
        assert!(revision > self.reported && revision <= reference.current());
        let expected: Vec<&Event> = reference
            .published(&self.query.range, self.next)
            .take_while(|event| event.kv.mod_revision <= revision)
            .collect();
        assert_eq!(events.len(), expected.len(), "events up to {revision}: {events:?}, not {expected:?}");
        for (event, expected) in events.iter().zip(expected) {
            assert_eq!((event.kind, &event.kv), (expected.kind, &expected.kv));
            match (&event.prev, &expected.prev) {
                (Some(found), Some(prev)) => assert!(self.query.prev_kv && found == prev),
                (None, Some(prev)) => {
                    assert!(!self.query.prev_kv || reference.is_lost(prev), "{event:?} without {prev:?}");
                }
                (found, None) => assert_eq!(*found, None),
            }
        }
        self.next = revision.next();
        self.reported = revision;
    }

    fn check_progress(&mut self, reference: &Reference, revision: Revision) {
        assert!(revision <= reference.current() && revision.next() >= self.start);
        let before = reference.published(&self.query.range, self.next);
        let skipped: Vec<&Event> = before.take_while(|event| event.kv.mod_revision <= revision).collect();
        assert!(skipped.is_empty(), "progress at {revision} overtakes {skipped:?}");
        self.next = self.next.max(revision.next());
        self.reported = revision;
    }

    fn check_error(&self, reference: &Reference, error: &KvError) {
        let KvError::Compacted { requested, compacted } = error else { panic!("a watch ended: {error:?}") };
        assert_eq!(*compacted, reference.compacted());
        assert!(self.next <= *requested && requested < compacted, "{error:?} at {}", self.next);
    }

    fn check_complete(&mut self, reference: &Reference, last_progress: Option<Revision>) {
        let missing: Vec<&Event> = reference.published(&self.query.range, self.next).collect();
        assert!(missing.is_empty(), "a watch waits and lacks {missing:?}");
        let current = reference.current();
        let has_begun = self.start <= current.next();
        if self.progress_asked && has_begun {
            assert_eq!(last_progress, Some(current), "progress was asked for");
            self.progress_asked = false;
        }
        if self.query.progress == ProgressMode::Automatic && has_begun {
            assert_eq!(self.reported, current, "progress follows every change");
        }
    }
}
