//! The verbs of the API on typed calls: what REST and gRPC both run, after authentication and authorization.
//!
//! One verb per file. A verb takes a [`Call`] (who, which kind, which object) and JSON objects, and answers with JSON
//! objects or a [`Status`]. The wire formats live elsewhere (`rest/`, `grpc/`), so neither can differ from the other.

pub(crate) mod bind;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod delete_collection;
pub(crate) mod finalize;
pub(crate) mod list;
pub(crate) mod modify;
pub(crate) mod read;
pub(crate) mod scale;
pub mod status;
pub(crate) mod token;
pub(crate) mod watch;

use std::sync::Arc;

use store::mvcc::Revision;
use transport::outside::Outside;

use crate::admission::ServiceRanges;
use crate::authn::User;
use crate::endpoints::status::{FENCED_OUT, Status};
use crate::node_channel::NodeChannels;
use crate::pki::TokenSigner;
use crate::registry::{Context, Kind};
use crate::storage::condition::{Condition, Expect, Extras};
use crate::storage::{Storage, StorageError, keys};

/// Attempts of a write that lost a race against another writer before the loss is reported.
pub(crate) const WRITE_ATTEMPTS: usize = 8;

/// Everything the verbs work on. One per server.
pub(crate) struct Api {
    pub(crate) storage: Storage,
    pub(crate) ranges: ServiceRanges,
    pub(crate) tokens: TokenSigner,
    pub(crate) nodes: NodeChannels,
    pub(crate) idempotency: create::IdempotencyLease,
    pub(crate) outside: Arc<dyn Outside>,
}

/// Who asks for what.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) user: Arc<User>,
    pub(crate) kind: &'static Kind,
    /// Empty for cluster scope and for all namespaces.
    pub(crate) namespace: String,
    /// Empty for collections.
    pub(crate) name: String,
}

impl Call {
    pub(crate) fn context<'a>(&'a self, now: &'a str) -> Context<'a> {
        Context { now, namespace: &self.namespace, user: &self.user.name }
    }
}

/// A condition on leadership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fence {
    pub(crate) lock: String,
    pub(crate) epoch: u64,
}

/// Whether a write is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Persist {
    #[default]
    Commit,
    /// `dryRun=All`: everything but the commit.
    DryRun,
}

/// Options of every write.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteOptions {
    pub(crate) persist: Persist,
    pub(crate) fence: Option<Fence>,
    pub(crate) idempotency_key: Option<String>,
}

impl WriteOptions {
    /// Returns what the options add to the commit.
    pub(crate) fn extras(&self) -> Extras {
        let mut extras = Extras::default();
        if let Some(Fence { lock, epoch }) = &self.fence {
            extras.conditions.push(Condition {
                key: format!("{}{lock}", keys::LEADERS),
                // An epoch beyond the store's range can never have been granted; -1 matches no key.
                expect: Expect::CreatedAt(Revision(i64::try_from(*epoch).unwrap_or(-1))),
                violated: StorageError::FencedOut { lock: lock.clone(), epoch: *epoch },
            });
        }
        extras
    }
}

impl Api {
    /// Returns why a fenced write failed: when its author's leadership is over, that comes first, whatever else kept the write from its
    /// commit. Decisions of a former leader run into what its successor wrote, which says nothing to an author that must stop.
    pub(crate) async fn why_failed(&self, call: &Call, options: &WriteOptions, failure: Status) -> Status {
        let Some(Fence { lock, epoch }) = &options.fence else { return failure };
        if !failure.code.is_client_error() || failure.has_cause(FENCED_OUT) {
            return failure;
        }
        // Without an answer it is not known that the leadership is over.
        let Ok(held) = self.storage.read_raw(&format!("{}{lock}", keys::LEADERS)).await else {
            return failure;
        };
        if held.is_some_and(|held| u64::try_from(held.create_revision.0) == Ok(*epoch)) {
            return failure;
        }
        let fenced_out = StorageError::FencedOut { lock: lock.clone(), epoch: *epoch };
        Status::from_storage(fenced_out, call.kind, &call.name)
    }
}

/// Returns a time as the API writes it: RFC 3339, whole seconds, UTC.
pub(crate) fn time_text(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Whether a failed commit may succeed when everything is read again.
pub(crate) fn is_lost_race(error: &StorageError) -> bool {
    match error {
        StorageError::Modified
        | StorageError::NamespaceChanged
        | StorageError::AddressTaken(_)
        | StorageError::NodeChanged
        | StorageError::Repeated => true,
        StorageError::Exists
        | StorageError::FencedOut { .. }
        | StorageError::Corrupt { .. }
        | StorageError::Kv(_) => false,
    }
}

impl Api {
    /// Returns now, as [`time_text`] writes it.
    pub(crate) fn now_text(&self) -> String {
        time_text(self.outside.now())
    }

    /// Fails a call whose object is absent.
    pub(crate) async fn existing(&self, call: &Call) -> Result<crate::storage::Stored, Status> {
        let found = self.storage.get(call.kind, &call.namespace, &call.name).await;
        found
            .map_err(|error| Status::from_storage(error, call.kind, &call.name))?
            .ok_or_else(|| Status::not_found(call.kind, &call.name))
    }
}
