//! The state of one kind as last seen: a pure core, and the shared handle that readers clone.
//!
//! Invariants: the revision never falls; an object in the cache is its newest state up to that revision. Subscribers
//! get every object once at the start and then its latest change: changes of one object that nobody has read yet are
//! joined, so a slow subscriber costs no more than one entry per object, holds nobody up and misses no final state.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};

use tokio::sync::{Notify, watch};

use crate::object::ApiObject;
use crate::watcher::Update;

/// Where an object lives; the namespace is empty for cluster-scoped kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    pub namespace: String,
    pub name: String,
}

impl ObjectKey {
    /// Returns a key.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Returns the key of an object.
    #[must_use]
    pub fn of<K: ApiObject>(object: &K) -> Self {
        let metadata = object.metadata();
        Self::new(metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            formatter.write_str(&self.name)
        } else {
            write!(formatter, "{}/{}", self.namespace, self.name)
        }
    }
}

/// Whether an object exists after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Applied,
    Deleted,
}

/// A change of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Change<K> {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub kind: ChangeKind,
    /// The present state, or the last one.
    pub object: Arc<K>,
    /// The state that this subscriber saw before.
    pub old: Option<Arc<K>>,
}

/// The pure core: objects at a revision, and which changes an update makes.
#[derive(Debug)]
pub struct CacheState<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    revision: u64,
    replace_count: u64,
}

impl<K> Default for CacheState<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), revision: 0, replace_count: 0 }
    }
}

impl<K: ApiObject> CacheState<K> {
    /// Takes an update in and returns what changed.
    pub fn update(&mut self, update: Update<K>) -> Vec<Change<K>> {
        self.revision = self.revision.max(update.revision());
        match update {
            Update::Replace { objects, .. } => {
                self.replace_count += 1;
                self.replace(objects)
            }
            Update::Apply { object, .. } => self.apply(object).into_iter().collect(),
            Update::Delete { object, .. } => {
                let key = ObjectKey::of(&object);
                let old = self.objects.remove(&key);
                vec![change(ChangeKind::Deleted, Arc::new(object), old)]
            }
            Update::Progress { .. } => Vec::new(),
        }
    }

    fn replace(&mut self, objects: Vec<K>) -> Vec<Change<K>> {
        let kept: HashSet<ObjectKey> = objects.iter().map(ObjectKey::of).collect();
        let gone: Vec<ObjectKey> = self.objects.keys().filter(|key| !kept.contains(*key)).cloned().collect();
        let mut changes = Vec::new();
        for key in gone {
            if let Some(old) = self.objects.remove(&key) {
                changes.push(change(ChangeKind::Deleted, Arc::clone(&old), Some(old)));
            }
        }
        for object in objects {
            changes.extend(self.apply(object));
        }
        changes
    }

    fn apply(&mut self, object: K) -> Option<Change<K>> {
        let key = ObjectKey::of(&object);
        let object = Arc::new(object);
        let old = self.objects.insert(key, Arc::clone(&object));
        if let Some(old) = &old
            && old.metadata().resource_version == object.metadata().resource_version
            && old.metadata().uid == object.metadata().uid
        {
            return None;
        }
        Some(change(ChangeKind::Applied, object, old))
    }
}

fn change<K: ApiObject>(kind: ChangeKind, object: Arc<K>, old: Option<Arc<K>>) -> Change<K> {
    let metadata = object.metadata();
    Change {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        kind,
        old,
        object,
    }
}

/// A shared view of all objects of one kind, kept up to date by a [`crate::Reflector`].
#[derive(Debug)]
pub struct Cache<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

#[derive(Debug)]
struct Shared<K> {
    state: RwLock<CacheState<K>>,
    subscribers: Mutex<Vec<Weak<Queue<K>>>>,
    progress: watch::Sender<Progress>,
    /// Highest revision that somebody needs soon; the reflector lists again rather than wait for a quiet watch.
    wanted: watch::Sender<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    revision: u64,
    synced: bool,
}

impl<K: ApiObject> Default for Cache<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: ApiObject> Cache<K> {
    /// Returns an empty cache that is not synced; [`Cache::update`] feeds it.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                state: RwLock::new(CacheState::default()),
                subscribers: Mutex::new(Vec::new()),
                progress: watch::Sender::new(Progress::default()),
                wanted: watch::Sender::new(0),
            }),
        }
    }

    /// Returns a synced cache with these objects, for tests of readers.
    #[must_use]
    pub fn of(objects: Vec<K>) -> Self {
        let cache = Self::new();
        let revision = objects.iter().map(crate::object::revision).max().unwrap_or(0);
        cache.update(Update::Replace { objects, revision });
        cache
    }

    /// Takes in what the watcher found. Only the owner of the feed (a reflector, a test) calls this.
    pub fn update(&self, update: Update<K>) {
        // Subscribers are locked first, so that a new one sees the state before or after an update, never between.
        let mut subscribers = self.subscribers();
        let (changes, progress) = {
            let mut state = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
            let changes = state.update(update);
            (changes, Progress { revision: state.revision, synced: state.replace_count > 0 })
        };
        subscribers.retain(|subscriber| match subscriber.upgrade() {
            Some(queue) => {
                queue.push(&changes);
                true
            }
            None => false,
        });
        self.shared.progress.send_replace(progress);
    }

    /// Returns an object.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.state().objects.get(&ObjectKey::new(namespace, name)).cloned()
    }

    /// Returns all objects, ordered by namespace and name.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<K>> {
        self.state().objects.values().cloned().collect()
    }

    /// Returns the objects of a namespace, ordered by name.
    #[must_use]
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let first = ObjectKey::new(namespace, "");
        let state = self.state();
        let from_first = state.objects.range(first..);
        from_first
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    /// Returns how many objects there are.
    #[must_use]
    pub fn object_count(&self) -> usize {
        self.state().objects.len()
    }

    /// Returns the revision that the cache has seen everything up to.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.state().revision
    }

    /// Says whether the first list has arrived.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.list_count() > 0
    }

    /// Returns how often the whole state was replaced by a list. More than once means that a watch could not go on from its
    /// revision.
    #[must_use]
    pub fn list_count(&self) -> u64 {
        self.state().replace_count
    }

    /// Waits for the first list. Cancel safe.
    pub async fn wait_synced(&self) {
        self.wait(|progress| progress.synced).await;
    }

    /// Waits until every change up to `revision` is in the cache. Cancel safe.
    pub async fn wait_for_revision(&self, revision: u64) {
        self.wait(|progress| progress.synced && progress.revision >= revision).await;
    }

    /// As [`Cache::wait_for_revision`], and asks the reflector to list again if the watch stays quiet. Cancel safe.
    pub async fn ensure_revision(&self, revision: u64) {
        self.shared.wanted.send_if_modified(|wanted| {
            let raises = revision > *wanted;
            *wanted = revision.max(*wanted);
            raises
        });
        self.wait_for_revision(revision).await;
    }

    async fn wait(&self, reached: impl FnMut(&Progress) -> bool) {
        // The sender lives in `self`, so the channel cannot close while this waits.
        let mut progress = self.shared.progress.subscribe();
        let _reached = progress.wait_for(reached).await;
    }

    /// Returns the changes from now on, starting with every object as applied.
    #[must_use]
    pub fn subscribe(&self) -> Changes<K> {
        let mut subscribers = self.subscribers();
        let queue = Arc::new(Queue::default());
        let present: Vec<Change<K>> = self
            .state()
            .objects
            .values()
            .map(|object| change(ChangeKind::Applied, Arc::clone(object), None))
            .collect();
        queue.push(&present);
        subscribers.push(Arc::downgrade(&queue));
        Changes { queue, _cache: self.clone() }
    }

    pub(crate) fn wanted(&self) -> watch::Receiver<u64> {
        self.shared.wanted.subscribe()
    }

    fn state(&self) -> RwLockReadGuard<'_, CacheState<K>> {
        self.shared.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn subscribers(&self) -> MutexGuard<'_, Vec<Weak<Queue<K>>>> {
        self.shared.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A subscriber's view of the changes; dropping it ends the subscription.
#[derive(Debug)]
pub struct Changes<K> {
    queue: Arc<Queue<K>>,
    _cache: Cache<K>,
}

impl<K: ApiObject> Changes<K> {
    /// Returns the next change, oldest first. Cancel safe.
    pub async fn recv(&mut self) -> Change<K> {
        loop {
            let arrived = self.queue.arrived.notified();
            let next = self.queue.pending().pop();
            if let Some(change) = next {
                return change;
            }
            arrived.await;
        }
    }

    /// Returns the next change if there is one.
    pub fn try_recv(&mut self) -> Option<Change<K>> {
        self.queue.pending().pop()
    }
}

#[derive(Debug)]
struct Queue<K> {
    pending: Mutex<Pending<K>>,
    arrived: Notify,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { pending: Mutex::default(), arrived: Notify::new() }
    }
}

impl<K: ApiObject> Queue<K> {
    fn push(&self, changes: &[Change<K>]) {
        if changes.is_empty() {
            return;
        }
        let mut pending = self.pending();
        for change in changes {
            pending.push(change.clone());
        }
        drop(pending);
        self.arrived.notify_one();
    }

    fn pending(&self) -> MutexGuard<'_, Pending<K>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Unread changes in order of their object's first one; at most one per object and uid.
#[derive(Debug)]
struct Pending<K> {
    order: VecDeque<(ObjectKey, String)>,
    changes: HashMap<(ObjectKey, String), Change<K>>,
}

impl<K> Default for Pending<K> {
    fn default() -> Self {
        Self { order: VecDeque::new(), changes: HashMap::new() }
    }
}

impl<K: ApiObject> Pending<K> {
    fn push(&mut self, change: Change<K>) {
        let id = (ObjectKey::new(&change.namespace, &change.name), change.uid.clone());
        match self.changes.get_mut(&id) {
            Some(unread) => {
                unread.kind = change.kind;
                unread.object = change.object;
            }
            None => {
                self.order.push_back(id.clone());
                self.changes.insert(id, change);
            }
        }
    }

    fn pop(&mut self) -> Option<Change<K>> {
        let id = self.order.pop_front()?;
        self.changes.remove(&id)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn object(name: &str, uid: &str, revision: u64) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.namespace = Some("ns".into());
        object.metadata.name = Some(name.into());
        object.metadata.uid = Some(uid.into());
        object.metadata.resource_version = Some(revision.to_string());
        object
    }

    fn apply(object: ConfigMap) -> Update<ConfigMap> {
        Update::Apply { revision: crate::object::revision(&object), object }
    }

    fn drain(changes: &mut Changes<ConfigMap>) -> Vec<(String, ChangeKind, bool)> {
        std::iter::from_fn(|| changes.try_recv())
            .map(|change| (change.uid, change.kind, change.old.is_some()))
            .collect()
    }

    #[test]
    fn replace_reports_what_appeared_changed_and_went() {
        let mut state = CacheState::default();
        state
            .update(Update::Replace { objects: vec![object("a", "1", 1), object("b", "2", 2)], revision: 2 });
        let changes = state
            .update(Update::Replace { objects: vec![object("b", "2", 2), object("c", "3", 5)], revision: 5 });
        let seen: Vec<_> = changes.iter().map(|change| (change.name.as_str(), change.kind)).collect();
        assert_eq!(seen, [("a", ChangeKind::Deleted), ("c", ChangeKind::Applied)]);
    }

    #[test]
    fn unread_changes_of_one_object_are_joined() {
        let cache = Cache::of(vec![object("a", "1", 1)]);
        let mut changes = cache.subscribe();
        assert_eq!(drain(&mut changes), [("1".into(), ChangeKind::Applied, false)]);
        cache.update(apply(object("a", "1", 2)));
        cache.update(apply(object("a", "1", 3)));
        cache.update(Update::Delete { object: object("a", "1", 4), revision: 4 });
        cache.update(apply(object("a", "2", 5)));
        let expected = [("1".into(), ChangeKind::Deleted, true), ("2".into(), ChangeKind::Applied, false)];
        assert_eq!(drain(&mut changes), expected);
        assert_eq!(cache.revision(), 5);
    }

    #[test]
    fn lists_are_counted_and_events_are_not() {
        let cache = Cache::new();
        assert!(!cache.is_synced());
        cache.update(Update::Replace { objects: vec![object("a", "1", 1)], revision: 1 });
        cache.update(apply(object("a", "1", 2)));
        cache.update(Update::Progress { revision: 9 });
        assert!(cache.is_synced());
        assert_eq!(cache.list_count(), 1);
        cache.update(Update::Replace { objects: Vec::new(), revision: 12 });
        assert_eq!(cache.list_count(), 2);
    }

    #[tokio::test]
    async fn waiting_for_a_revision_ends_with_a_bookmark() {
        let cache = Cache::of(vec![object("a", "1", 1)]);
        let waiting = tokio::spawn({
            let cache = cache.clone();
            async move { cache.wait_for_revision(9).await }
        });
        cache.update(Update::Progress { revision: 9 });
        waiting.await.unwrap();
    }

    #[test]
    fn namespaces_are_listed_apart() {
        let mut other = object("z", "9", 1);
        other.metadata.namespace = Some("ns2".into());
        let cache = Cache::of(vec![object("a", "1", 1), object("b", "2", 1), other]);
        assert_eq!(cache.list_namespace("ns").len(), 2);
        assert_eq!(cache.list_namespace("n").len(), 0);
    }
}
