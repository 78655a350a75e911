//! Asks the API server whether owners that the graph does not know exist.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{ApiError, Backoff, Client, MetadataObject, ObjectKey};
use tokio::sync::mpsc;
use tracing::debug;

use super::graph::{Graph, OwnerId};
use super::lock;

const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Answers one owner at a time; a burst of dependents asks for the same owner only once.
pub(crate) struct Verifier {
    pub(crate) client: Client,
    pub(crate) graph: Arc<Mutex<Graph>>,
    pub(crate) owners: mpsc::Receiver<OwnerId>,
    /// Wakes the dependents of an owner that was verified.
    pub(crate) wake: mpsc::Sender<Vec<ObjectKey>>,
}

impl Verifier {
    /// Runs until the collector is gone.
    pub(crate) async fn run(mut self) {
        let mut pause = Backoff::new(PAUSE_FIRST, PAUSE_MAX, 1);
        let mut batch = Vec::new();
        while self.owners.recv_many(&mut batch, super::VERIFY_QUEUE_COUNT).await > 0 {
            let mut asked = HashSet::new();
            for owner in batch.drain(..) {
                if !asked.insert(owner.uid.clone()) {
                    continue;
                }
                match self.exists(&owner).await {
                    Ok(true) => pause.reset(),
                    Ok(false) => {
                        pause.reset();
                        let uids = lock(&self.graph).verified_absent(&owner.uid);
                        let keys = uids.into_iter().map(|uid| ObjectKey::new("", uid)).collect();
                        if self.wake.send(keys).await.is_err() {
                            return;
                        }
                    }
                    // Not knowing is not absence; the dependent is looked at again and asks again.
                    Err(error) => {
                        debug!(%error, owner = %owner.name, "owner not verified");
                        tokio::time::sleep(pause.next_delay()).await;
                    }
                }
            }
        }
    }

    async fn exists(&self, owner: &OwnerId) -> Result<bool, ApiError> {
        match self.client.get_as::<MetadataObject>(&owner.kind, &owner.namespace, &owner.name).await {
            Ok(found) => Ok(found.metadata.uid.as_deref() == Some(&owner.uid)),
            Err(ApiError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
