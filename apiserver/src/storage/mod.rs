//! Kubernetes objects over the replicated store.
//!
//! Keys and values are laid out as upstream lays them out (`/registry/<prefix>/[namespace/]name`, JSON), and an
//! object's resourceVersion is the revision of its last write. Every write is one transaction that compares the
//! object's own revision *and* everything else that must hold (`Condition`): leadership, a live namespace, free
//! addresses, node capacity. So none of those can become false between the check and the commit.
//!
//! Reading order: [`keys`], [`condition`], [`objects`] (get and writes), [`list`], [`watch`].

pub(crate) mod condition;
pub(crate) mod keys;
pub(crate) mod list;
pub(crate) mod objects;
pub(crate) mod watch;

use std::sync::Arc;

use store::kv::{Kv, KvError};
use store::mvcc::Revision;

use crate::registry::Object;

/// Why storage refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    #[error("object exists")]
    Exists,
    /// The object was written after it was read.
    #[error("object was modified")]
    Modified,
    #[error("epoch {epoch} of lock {lock} is over")]
    FencedOut { lock: String, epoch: u64 },
    /// The namespace was deleted, or changed at all, after it was read.
    #[error("namespace changed")]
    NamespaceChanged,
    #[error("address {0} is taken")]
    AddressTaken(String),
    /// The node or what is bound to it changed after it was read.
    #[error("node allocation changed")]
    NodeChanged,
    /// Another request with the same idempotency key was first.
    #[error("idempotency key was used")]
    Repeated,
    #[error("stored value at {key} cannot be read: {reason}")]
    Corrupt { key: String, reason: String },
    #[error(transparent)]
    Kv(#[from] KvError),
}

/// An object as read, with the revision that a later write compares.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Carries its resourceVersion.
    pub object: Object,
    pub revision: Revision,
}

/// The storage of all kinds.
#[derive(Clone)]
pub struct Storage {
    pub(crate) kv: Arc<dyn Kv>,
}

impl Storage {
    /// Wraps the store.
    #[must_use]
    pub fn new(kv: Arc<dyn Kv>) -> Self {
        Self { kv }
    }
}
