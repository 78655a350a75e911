//! When this leader last saw each node's heartbeat, on its own monotonic clock.
//!
//! A leader that loses its quorum cannot renew its lock, stops within two thirds of the lock's time to live, and starts
//! to count from zero in its next tenure; so silence is only ever counted while heartbeats could have been seen.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use tokio::time::Instant;

use crate::runtime::Caches;
use crate::runtime::caches::NODE_LEASE_NAMESPACE;

/// What this leader has seen of its nodes.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    nodes: Mutex<HashMap<String, Seen>>,
}

#[derive(Clone, Debug)]
struct Seen {
    heartbeat: String,
    changed_at: Instant,
    not_ready_since: Option<Instant>,
}

impl Monitor {
    /// Takes in a look at a node; returns how long its heartbeat has not changed and how long it has been not ready.
    pub(crate) fn observe(&self, node: &str, heartbeat: String, is_ready: bool) -> (Duration, Duration) {
        let now = Instant::now();
        let mut nodes = self.nodes();
        let seen = nodes.entry(node.to_owned()).or_insert_with(|| Seen {
            heartbeat: heartbeat.clone(),
            changed_at: now,
            not_ready_since: None,
        });
        if seen.heartbeat != heartbeat {
            seen.heartbeat = heartbeat;
            seen.changed_at = now;
        }
        seen.not_ready_since = if is_ready { None } else { seen.not_ready_since.or(Some(now)) };
        let not_ready_for = seen.not_ready_since.map(|since| now.duration_since(since)).unwrap_or_default();
        (now.duration_since(seen.changed_at), not_ready_for)
    }

    /// Drops a node that is gone.
    pub(crate) fn forget(&self, node: &str) {
        self.nodes().remove(node);
    }

    fn nodes(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns what changes with every sign of life: the Lease's renewal, and the heartbeat in the node's own status.
pub(super) fn heartbeat(caches: &Caches, node: &Node) -> String {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let lease = caches.node_leases.get(NODE_LEASE_NAMESPACE, name);
    let renewed =
        lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0.to_string()));
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let newest =
        conditions.into_iter().flatten().filter_map(|condition| condition.last_heartbeat_time.as_ref()).max();
    format!("{} {}", renewed.unwrap_or_default(), newest.map(|time| time.0.to_string()).unwrap_or_default())
}
