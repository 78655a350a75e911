//! What a key has written and not yet seen again. Nothing here expires: a held watch delays a key, it never makes
//! the controller decide on old state.

use std::collections::BTreeMap;

use client::{ApiObject, Cache, ResourceKind};
use futures::future::BoxFuture;

use super::caches::Caches;

/// Revisions that caches must pass, and deletions that they must show, before a key is acted on again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnWrites {
    revisions: BTreeMap<ResourceKind, u64>,
    deletions: Vec<Deletion>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Deletion {
    kind: ResourceKind,
    namespace: String,
    name: String,
    uid: String,
}

impl OwnWrites {
    /// Notes a write by the revision that it got.
    pub fn wrote(&mut self, kind: &ResourceKind, revision: u64) {
        let awaited = self.revisions.entry(kind.clone()).or_default();
        *awaited = revision.max(*awaited);
    }

    /// Notes a deletion, whose revision the server need not tell.
    pub fn deleted(&mut self, kind: &ResourceKind, namespace: &str, name: &str, uid: &str) {
        self.deletions.push(Deletion {
            kind: kind.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
        });
    }

    /// Waits until every cache shows these writes; kinds that nobody caches cannot be decided on and are skipped.
    pub async fn seen(&self, caches: &Caches) {
        for (kind, revision) in &self.revisions {
            if let Some(cache) = caches.view(kind) {
                cache.passed(*revision).await;
            }
        }
        for deletion in &self.deletions {
            if let Some(cache) = caches.view(&deletion.kind) {
                cache.gone_or_going(&deletion.namespace, &deletion.name, &deletion.uid).await;
            }
        }
    }
}

/// What own writes need to know of a cache of any kind.
pub trait CacheView: Send + Sync {
    /// Waits until everything up to the revision is in the cache.
    fn passed(&self, revision: u64) -> BoxFuture<'_, ()>;

    /// As [`CacheView::passed`], and makes a quiet reflector list again.
    fn ensure(&self, revision: u64) -> BoxFuture<'_, ()>;

    /// Waits until the object with this uid is gone or marked for deletion.
    fn gone_or_going<'a>(&'a self, namespace: &'a str, name: &'a str, uid: &'a str) -> BoxFuture<'a, ()>;
}

impl<K: ApiObject> CacheView for Cache<K> {
    fn passed(&self, revision: u64) -> BoxFuture<'_, ()> {
        Box::pin(self.wait_for_revision(revision))
    }

    fn ensure(&self, revision: u64) -> BoxFuture<'_, ()> {
        Box::pin(self.ensure_revision(revision))
    }

    fn gone_or_going<'a>(&'a self, namespace: &'a str, name: &'a str, uid: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            loop {
                let revision = self.revision();
                let lives = self.get(namespace, name).is_some_and(|object| {
                    let metadata = object.metadata();
                    metadata.uid.as_deref() == Some(uid) && metadata.deletion_timestamp.is_none()
                });
                if !lives {
                    return;
                }
                self.wait_for_revision(revision + 1).await;
            }
        })
    }
}
