//! Where things are kept in the store.

use store::mvcc::KeyRange;

use crate::registry::{Kind, Scope};

/// Holders of leader locks: `<prefix><lock>`; the key's create revision is the holder's epoch.
pub(crate) const LEADERS: &str = "/keelson/leaders/";
/// Servers that are alive: `<prefix><address>:<port>`, each on its server's lease.
pub(crate) const SERVERS: &str = "/keelson/servers/";
/// Answers to creates that carried an idempotency key.
pub(crate) const IDEMPOTENCY: &str = "/keelson/idempotency/";
/// What is bound to each node, one record per node.
pub(crate) const ALLOCATIONS: &str = "/keelson/allocations/";
/// Allocated service addresses, one key per address.
pub(crate) const SERVICE_IPS: &str = "/registry/ranges/serviceips/";
/// Allocated node ports, one key per port.
pub(crate) const NODE_PORTS: &str = "/registry/ranges/servicenodeports/";

/// Returns the key of an object.
pub(crate) fn object(kind: &Kind, namespace: &str, name: &str) -> String {
    let mut key = prefix(kind, namespace);
    key.push_str(name);
    key
}

/// Returns the prefix of all objects of a kind, in one namespace or (`""`) in all.
pub(crate) fn prefix(kind: &Kind, namespace: &str) -> String {
    match (kind.scope, namespace) {
        (Scope::Cluster, _) | (Scope::Namespaced, "") => format!("/registry/{}/", kind.storage_prefix),
        (Scope::Namespaced, namespace) => format!("/registry/{}/{namespace}/", kind.storage_prefix),
    }
}

/// Returns the range of all objects of a kind in a namespace (`""` for all).
pub(crate) fn range(kind: &Kind, namespace: &str) -> KeyRange {
    KeyRange::prefix(prefix(kind, namespace))
}
