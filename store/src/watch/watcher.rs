//! One subscription as a stream. It pulls: nothing is buffered here, and dropping it unsubscribes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;

use super::core::{Taken, WatcherId};
use super::hub::{Hub, StoreAccess};
use crate::kv::{KvError, WatchItem, WatchQuery};
use crate::mvcc::{Event, HistoryLimits, Revision, RevisionEvents};

/// How much of the past one poll reads; bounds how long it holds the store and its thread.
const CATCH_UP: HistoryLimits = HistoryLimits { rows_max: 1000, bytes_max: 1 << 20 };

/// A stream of [`WatchItem`]s; ends after its first error.
pub struct Watcher {
    hub: Arc<Hub>,
    store: Arc<dyn StoreAccess>,
    id: WatcherId,
    query: WatchQuery,
    /// Compact revision at the start. What a key held before it is told of no event, kept or not, as etcd reads it then.
    compacted: Revision,
    ended: bool,
}

/// Asks a watcher for progress from another task.
#[derive(Clone)]
pub struct ProgressHandle {
    hub: Arc<Hub>,
    id: WatcherId,
}

impl ProgressHandle {
    /// Makes the watcher deliver [`WatchItem::Progress`] as soon as it is synced, behind all events up to there. Nothing
    /// comes while its start revision is still in the future.
    pub fn request(&self) {
        self.hub.request_progress(self.id);
    }
}

impl Watcher {
    pub(super) fn new(
        hub: Arc<Hub>,
        store: Arc<dyn StoreAccess>,
        id: WatcherId,
        query: WatchQuery,
        compacted: Revision,
    ) -> Self {
        Self { hub, store, id, query, compacted, ended: false }
    }

    /// Returns a handle that asks this watcher for progress.
    #[must_use]
    pub fn progress_handle(&self) -> ProgressHandle {
        ProgressHandle { hub: Arc::clone(&self.hub), id: self.id }
    }

    /// Reads a piece of the past; `None` when it held nothing for this watcher.
    fn catch_up(&self, next: Revision) -> Result<Option<WatchItem>, KvError> {
        let mut read = None;
        self.store.with_store(&mut |store| {
            read = Some(store.history(&self.query.range, next, CATCH_UP));
        });
        let history = match read {
            Some(Ok(Ok(history))) => history,
            Some(Ok(Err(refusal))) => return Err(refusal.into()),
            // The engine failed. The apply path meets the same and ends the member.
            Some(Err(_)) | None => return Err(KvError::Stopped),
        };
        let item = self.events(history.revisions.iter(), history.through);
        let reported = item.as_ref().map(|_| history.through);
        self.hub.lock().caught_up(self.id, history.through, reported);
        Ok(item)
    }

    /// Picks this watcher's events; `None` if there are none.
    fn events<'a>(
        &self,
        revisions: impl Iterator<Item = &'a RevisionEvents>,
        revision: Revision,
    ) -> Option<WatchItem> {
        let events: Vec<Event> = revisions
            .flat_map(|revision| &revision.events)
            .filter(|event| self.query.range.contains(&event.kv.key))
            .map(|event| Event {
                prev: event.prev.clone().filter(|_| self.shows_prev(event)),
                kind: event.kind,
                kv: event.kv.clone(),
            })
            .collect();
        (!events.is_empty()).then_some(WatchItem::Events { revision, events })
    }

    fn shows_prev(&self, event: &Event) -> bool {
        self.query.prev_kv && event.kv.mod_revision > self.compacted
    }

    fn step(&self, context: &Context<'_>) -> Poll<Result<WatchItem, KvError>> {
        loop {
            let taken = self.hub.lock().take(self.id, context.waker());
            let item = match taken {
                Taken::Revisions(revisions) => {
                    let last = revisions.last().map_or(Revision::FIRST, |last| last.revision);
                    self.events(revisions.iter().map(AsRef::as_ref), last)
                }
                Taken::Progress(revision) => Some(WatchItem::Progress(revision)),
                Taken::Behind { next } => match self.catch_up(next) {
                    Ok(item) => item,
                    Err(error) => return Poll::Ready(Err(error)),
                },
                Taken::Nothing => return Poll::Pending,
                Taken::Closed => return Poll::Ready(Err(KvError::Stopped)),
            };
            if let Some(item) = item {
                return Poll::Ready(Ok(item));
            }
        }
    }
}

impl Stream for Watcher {
    type Item = Result<WatchItem, KvError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = self.step(context);
        if let Poll::Ready(Err(_)) = &polled {
            self.ended = true;
        }
        polled.map(Some)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.hub.remove(self.id);
    }
}
