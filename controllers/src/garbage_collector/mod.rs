//! Deletes what nobody owns any more: background, foreground and orphan deletion by owner uid.
//!
//! [`graph`] holds every object with its owners and decides (pure). An owner that the graph does not know is not taken
//! for absent: [`verifier`] asks the API server first, and an answer that does not come deletes nothing.

pub mod graph;
mod verifier;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::{Change, ChangeKind, MetadataObject, ObjectKey, ResourceKind};
use tokio::sync::mpsc;

use crate::runtime::{Context, Controller, Plan};
use graph::{Decision, Graph, OwnerId};
pub(crate) use verifier::Verifier;

/// Owners waiting to be verified; what does not fit is asked for again when its dependent is looked at next.
pub(crate) const VERIFY_QUEUE_COUNT: usize = 1024;

/// Decides on objects by uid: a key's name is the uid.
#[derive(Debug)]
pub struct GarbageCollector {
    graph: Arc<Mutex<Graph>>,
    verify: mpsc::Sender<OwnerId>,
}

impl GarbageCollector {
    /// Returns a collector that sends owners it does not know to `verify`.
    #[must_use]
    pub fn new(graph: Arc<Mutex<Graph>>, verify: mpsc::Sender<OwnerId>) -> Self {
        Self { graph, verify }
    }
}

impl Controller for GarbageCollector {
    type Observed = Decision;

    const NAME: &'static str = "garbage-collector-controller";

    fn observe(&self, key: &ObjectKey) -> Decision {
        let decision = lock(&self.graph).decide(&key.name);
        if let Decision::Verify(owners) = &decision {
            for owner in owners {
                // A full queue only delays: the key is looked at again.
                let _queued = self.verify.try_send(owner.clone());
            }
        }
        decision
    }

    fn reconcile(decision: &Decision, _context: &Context) -> Plan {
        decision.plan()
    }
}

/// Takes a change into the graph and returns the keys that it concerns.
#[must_use]
pub fn note_change(
    graph: &Mutex<Graph>,
    kind: &ResourceKind,
    change: &Change<MetadataObject>,
) -> Vec<ObjectKey> {
    let mut graph = lock(graph);
    let uids = match change.kind {
        ChangeKind::Applied => graph.observed(kind, &change.object),
        ChangeKind::Deleted => graph.removed(&change.uid),
    };
    uids.into_iter().map(|uid| ObjectKey::new("", uid)).collect()
}

pub(crate) fn lock(graph: &Mutex<Graph>) -> MutexGuard<'_, Graph> {
    graph.lock().unwrap_or_else(PoisonError::into_inner)
}
