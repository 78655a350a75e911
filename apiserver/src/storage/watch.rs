//! Changes of a kind, as states before and after; what a selector makes of them is decided by the caller.

use futures::stream::{BoxStream, StreamExt};
use store::kv::{KvError, WatchItem, WatchQuery};
use store::mvcc::{Event, EventKind, Revision};

use super::objects::decode;
use super::{Storage, StorageError, Stored, keys};
use crate::object;
use crate::registry::{Kind, Object, Scope};

/// One change of one object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) revision: Revision,
    /// `None` when the object was created, or when its old state is compacted.
    pub(crate) old: Option<Object>,
    /// `None` when the object was deleted.
    pub(crate) new: Option<Object>,
    pub(crate) created: bool,
}

/// What a storage watch delivers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum StorageEvent {
    Changes(Vec<Change>),
    /// Everything up to this revision was delivered.
    Progress(Revision),
}

impl Storage {
    /// Watches a kind in a namespace (`""` for all) from `start` on.
    pub(crate) async fn watch(
        &self,
        kind: &'static Kind,
        namespace: &str,
        start: Revision,
    ) -> Result<BoxStream<'static, Result<StorageEvent, StorageError>>, StorageError> {
        let range = keys::range(kind, namespace);
        let query = WatchQuery { start: Some(start), prev_kv: true, ..WatchQuery::new(range) };
        let stream = self.kv.watch(query).await?;
        Ok(stream.map(move |item| convert(kind, item)).boxed())
    }
}

fn convert(kind: &Kind, item: Result<WatchItem, KvError>) -> Result<StorageEvent, StorageError> {
    match item? {
        WatchItem::Progress(revision) => Ok(StorageEvent::Progress(revision)),
        WatchItem::Events { events, .. } => {
            let changes: Result<_, _> = events.iter().map(|event| change(kind, event)).collect();
            Ok(StorageEvent::Changes(changes?))
        }
    }
}

fn change(kind: &Kind, event: &Event) -> Result<Change, StorageError> {
    let revision = event.kv.mod_revision;
    let old = event.prev.as_ref().map(decode).transpose()?.map(|stored| stored.object);
    match event.kind {
        EventKind::Put => {
            let Stored { object, .. } = decode(&event.kv)?;
            let created = event.kv.create_revision == event.kv.mod_revision;
            Ok(Change { revision, old, new: Some(object), created })
        }
        EventKind::Delete => {
            let old = old.unwrap_or_else(|| named_only(kind, &event.kv.key));
            Ok(Change { revision, old: Some(old), new: None, created: false })
        }
    }
}

/// What is left of a deleted object whose last state is compacted: its name.
fn named_only(kind: &Kind, key: &[u8]) -> Object {
    let key = String::from_utf8_lossy(key).into_owned();
    let tail = key.strip_prefix(&keys::prefix(kind, "")).unwrap_or_default();
    let mut object = Object::new();
    match (kind.scope, tail.split_once('/')) {
        (Scope::Namespaced, Some((namespace, name))) => {
            object::set_meta(&mut object, "namespace", namespace);
            object::set_meta(&mut object, "name", name);
        }
        (Scope::Namespaced | Scope::Cluster, _) => object::set_meta(&mut object, "name", tail),
    }
    object
}
