//! Notices which pods changed at the runtime, by comparing lists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::runtime::{ContainerInfo, Runtime, RuntimeError, SandboxInfo};

/// Pause after a failed list.
const RETRY: Duration = Duration::from_secs(1);
/// Changes that wait for the pod manager; every pod of a node at once fits.
pub const QUEUE_LENGTH: usize = 256;

/// What the runtime holds, by pod: ids with their states.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    pods: BTreeMap<String, BTreeMap<String, String>>,
}

impl Snapshot {
    /// Returns a snapshot of two lists.
    #[must_use]
    pub fn new(sandboxes: &[SandboxInfo], containers: &[ContainerInfo]) -> Self {
        let mut pods: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for sandbox in sandboxes {
            let states = pods.entry(sandbox.uid.clone()).or_default();
            states.insert(sandbox.id.0.clone(), format!("{:?}", sandbox.state));
        }
        for container in containers {
            let states = pods.entry(container.pod_uid.clone()).or_default();
            states.insert(container.id.0.clone(), format!("{:?}", container.state));
        }
        Self { pods }
    }

    /// Returns the pods that differ.
    #[must_use]
    pub fn changed(&self, other: &Self) -> BTreeSet<String> {
        let all = self.pods.keys().chain(other.pods.keys());
        all.filter(|uid| self.pods.get(*uid) != other.pods.get(*uid)).cloned().collect()
    }
}

/// Sends the uid of each pod that changed, until the token is cancelled.
pub async fn run(runtime: Arc<dyn Runtime>, changed: mpsc::Sender<String>, shutdown: CancellationToken) {
    let mut last = Snapshot::default();
    loop {
        match list(runtime.as_ref()).await {
            Ok(next) => {
                for uid in last.changed(&next) {
                    if changed.send(uid).await.is_err() {
                        return;
                    }
                }
                last = next;
            }
            Err(error) => {
                tracing::warn!(%error, "the runtime does not list its containers");
                tokio::time::sleep(RETRY).await;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = runtime.changed() => {}
        }
    }
}

async fn list(runtime: &dyn Runtime) -> Result<Snapshot, RuntimeError> {
    Ok(Snapshot::new(&runtime.sandboxes().await?, &runtime.containers().await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(pods: &[(&str, &str, &str)]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (uid, id, state) in pods {
            snapshot.pods.entry((*uid).to_owned()).or_default().insert((*id).to_owned(), (*state).to_owned());
        }
        snapshot
    }

    #[test]
    fn only_pods_that_differ_are_named() {
        let before = snapshot(&[("a", "1", "Running"), ("b", "2", "Running"), ("c", "3", "Running")]);
        let after = snapshot(&[("a", "1", "Running"), ("b", "2", "Exited"), ("d", "4", "Created")]);
        let changed: Vec<String> = before.changed(&after).into_iter().collect();
        assert_eq!(changed, ["b", "c", "d"]);
    }
}
