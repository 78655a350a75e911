//! The hub as the rest of the store sees it: publish on one side, subscribe on the other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::core::{Core, Limits, NewWatcher, WatcherId};
use super::watcher::Watcher;
use crate::kv::{KvError, WatchQuery};
use crate::mvcc::{Revision, RevisionEvents, Store};

/// Lends the store for reading, between commits.
pub trait StoreAccess: Send + Sync + 'static {
    /// Calls `read` once with the store; no command is applied meanwhile.
    fn with_store(&self, read: &mut dyn FnMut(&Store));
}

/// Where changes meet watchers.
#[derive(Debug)]
pub struct Hub {
    core: Mutex<Core>,
}

impl Hub {
    /// Returns a hub for a store that stands at `head`.
    #[must_use]
    pub fn new(head: Revision) -> Self {
        Self::with_limits(head, Limits::default())
    }

    /// Returns a hub that keeps more or less than usual.
    pub(crate) fn with_limits(head: Revision, limits: Limits) -> Self {
        Self { core: Mutex::new(Core::new(head, limits)) }
    }

    /// Hands new revisions to the watchers, in order, each once, after the store committed them. Never waits for a watcher.
    pub fn publish(&self, revisions: impl IntoIterator<Item = RevisionEvents>) {
        let mut wakers = Vec::new();
        {
            let mut core = self.lock();
            for revision in revisions {
                wakers.extend(core.publish(Arc::new(revision)));
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Tells the watchers that the whole state was replaced and stands at `head`; they read on by themselves.
    pub fn reset(&self, head: Revision) {
        let wakers = self.lock().reset(head);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends all watches with [`KvError::Stopped`].
    pub fn close(&self) {
        let wakers = self.lock().close();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Returns the number of open watches.
    #[must_use]
    pub fn watcher_count(&self) -> usize {
        self.lock().watcher_count()
    }

    /// Returns the last revision that was handed to the watchers.
    #[must_use]
    pub fn head(&self) -> Revision {
        self.lock().head()
    }

    /// Subscribes. The stream is independent of other watchers and of the caller's speed.
    ///
    /// # Errors
    /// [`KvError::Compacted`] when the start lies below the compact revision, [`KvError::EmptyKey`] without a start key.
    pub fn watch(
        self: &Arc<Self>,
        query: WatchQuery,
        store: Arc<dyn StoreAccess>,
    ) -> Result<Watcher, KvError> {
        query.range.validate()?;
        let mut place = (Revision::FIRST, Revision::NEVER_COMPACTED);
        store.with_store(&mut |store| place = (store.current_revision(), store.compact_revision()));
        let (current, compacted) = place;
        let next = query.start.unwrap_or_else(|| current.next());
        if next < compacted {
            return Err(KvError::Compacted { requested: next, compacted });
        }
        let new = NewWatcher { range: query.range.clone(), next, mode: query.progress };
        let id = self.lock().add(new);
        Ok(Watcher::new(Arc::clone(self), store, id, query, compacted))
    }

    pub(super) fn remove(&self, id: WatcherId) {
        self.lock().remove(id);
    }

    pub(super) fn request_progress(&self, id: WatcherId) {
        let waker = self.lock().request_progress(id);
        waker.into_iter().for_each(Waker::wake);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
