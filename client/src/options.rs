//! What callers may say beside the object: options of each verb, and the answers that are not objects.

use std::time::Duration;

use serde_json::Value;

/// A condition on leadership, compared inside the commit of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    pub lock: String,
    pub epoch: u64,
}

/// Options of every write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    pub fence: Option<Fence>,
    /// Creates only: a repeat with the same key returns the first object, so the client may retry by itself.
    pub idempotency_key: Option<String>,
    pub dry_run: bool,
}

/// Options of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    pub label_selector: String,
    pub field_selector: String,
    /// Objects per page; 0 returns all in one answer.
    pub limit: u64,
    pub continue_token: String,
    /// Empty reads linearizably, `0` takes any state, a number means "not older than".
    pub resource_version: String,
}

/// A page of objects, all at one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct List<K> {
    pub items: Vec<K>,
    pub revision: u64,
    /// Empty on the last page.
    pub continue_token: String,
}

/// Options of a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchOptions {
    pub label_selector: String,
    pub field_selector: String,
    /// Events after this revision.
    pub resource_version: u64,
}

/// A change to part of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 6902 operations.
    Json(Value),
    /// RFC 7396.
    Merge(Value),
    /// Kubernetes' strategic merge.
    Strategic(Value),
}

/// What happens to the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

impl Propagation {
    pub(crate) fn wire(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }
}

/// Options of a delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Precondition; a namesake with another uid survives.
    pub uid: Option<String>,
    /// Precondition; 0 sets none.
    pub resource_version: u64,
    /// `None` leaves the kind's default, 0 deletes at once.
    pub grace_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
}

/// Asks for a bound service-account token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenRequest {
    pub namespace: String,
    pub service_account: String,
    pub audiences: Vec<String>,
    pub expiration: Duration,
    /// `Pod`, or empty for an unbound token.
    pub bound_kind: String,
    pub bound_name: String,
    pub bound_uid: String,
}

/// A service-account token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub token: String,
    pub expires_at: jiff::Timestamp,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Token").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// A machine's first request: a token, and the certificate it wants signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    pub token: String,
    pub node_name: String,
    pub csr_pem: String,
}

/// What a machine gets for its join token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    pub certificate_pem: String,
    pub ca_pem: String,
}
