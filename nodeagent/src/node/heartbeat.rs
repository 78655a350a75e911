//! Two signs of life: the Lease every ten seconds; the status on change, when somebody overwrote it, and every five minutes.

use std::time::Duration;

use client::{ChangeKind, Changes, Client, Patch, WriteOptions};
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::registration::NodeDescription;

/// Upstream's namespace of node leases.
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// How long a lease counts (upstream's default).
const LEASE_SECONDS: u32 = 40;
/// How often it is renewed: a quarter of its life.
const LEASE_INTERVAL: Duration = Duration::from_secs(10);
/// After a failure the renewal is tried sooner, so that one lost server costs no beat.
const LEASE_RETRY: Duration = Duration::from_secs(1);
/// How often an unchanged status is written (upstream's default).
const STATUS_INTERVAL: Duration = Duration::from_secs(300);
const STATUS_RETRY: Duration = Duration::from_secs(2);

/// Whether pods can run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Yes.
    Ready,
    /// No, and why.
    NotReady(String),
}

/// Renews the node's lease until the token is cancelled.
pub async fn run_lease(client: Client, node_name: String, shutdown: CancellationToken) {
    loop {
        let renewed = client.renew_lease(LEASE_NAMESPACE, &node_name, &node_name, LEASE_SECONDS).await;
        let pause = match renewed {
            Ok(_) => LEASE_INTERVAL,
            Err(error) => {
                tracing::warn!(%error, "node lease is not renewed");
                LEASE_RETRY
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Writes the node's own status.
#[derive(Debug)]
pub struct StatusReporter {
    /// The API.
    pub client: Client,
    /// What the node says of itself.
    pub description: NodeDescription,
    /// The status that the API has.
    pub last: NodeStatus,
    /// Whether pods can run here.
    pub health: watch::Receiver<Health>,
    /// The node's own object, as the API shows it.
    pub shown: Changes<Node>,
}

impl StatusReporter {
    /// Writes the status when the health changes, when the API shows another one, and at intervals, until the token is cancelled.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut written = 0;
        loop {
            let health = self.health.borrow_and_update().clone();
            let pause = match self.write(&health).await {
                Ok(revision) => {
                    written = revision;
                    STATUS_INTERVAL
                }
                Err(error) if error.is_not_found() => {
                    super::register(&self.client, &self.description).await;
                    Duration::ZERO
                }
                Err(error) => {
                    tracing::warn!(%error, "node status is not written");
                    STATUS_RETRY
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = self.health.changed() => if changed.is_err() { return },
                shown = contradiction(&mut self.shown, &self.last, written) => {
                    tracing::info!(node = self.description.name, "the API takes this node for lost; it reports again");
                    self.last = shown;
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Returns the revision of what was written.
    async fn write(&mut self, health: &Health) -> Result<u64, client::ApiError> {
        let status = self.description.status(health, &self.last, self.client.outside().now());
        let patch = Patch::Strategic(json!({ "status": status }));
        let options = WriteOptions::default();
        let node = self.client.patch::<Node>("", &self.description.name, "status", &patch, &options).await?;
        self.last = status;
        Ok(client::object::revision(&node))
    }
}

/// Waits until the API shows conditions that contradict what was written last: whoever watches over nodes overwrites those of one
/// that was silent for too long. What is older than the last write says nothing.
async fn contradiction(shown: &mut Changes<Node>, last: &NodeStatus, written: u64) -> NodeStatus {
    loop {
        let change = shown.recv().await;
        let is_newer = client::object::revision(change.object.as_ref()) > written;
        let status = change.object.status.clone().unwrap_or_default();
        if change.kind == ChangeKind::Applied && is_newer && contradicts(&status, last) {
            return status;
        }
    }
}

/// Says whether a condition of `last` is missing or has another value.
fn contradicts(shown: &NodeStatus, last: &NodeStatus) -> bool {
    let shown = shown.conditions.as_deref().unwrap_or_default();
    let mut ours = last.conditions.iter().flatten();
    ours.any(|wanted| {
        !shown.iter().any(|condition| condition.type_ == wanted.type_ && condition.status == wanted.status)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::Cache;
    use client::fake::FakeApi;
    use client::{Reflector, ReflectorOptions};
    use tokio::task::JoinSet;

    use crate::node::{Machine, register};
    use crate::runtime::RuntimeVersion;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn ready(node: &Node) -> Option<String> {
        let conditions = node.status.as_ref()?.conditions.as_ref()?;
        Some(conditions.iter().find(|condition| condition.type_ == "Ready")?.status.clone())
    }

    async fn shows(cache: &Cache<Node>, status: &str) {
        let wait = async {
            while cache.get("", "n").as_deref().and_then(ready).as_deref() != Some(status) {
                cache.wait_for_revision(cache.revision() + 1).await;
            }
        };
        assert!(tokio::time::timeout(DEADLINE, wait).await.is_ok(), "the node does not become {status}");
    }

    #[tokio::test]
    async fn a_node_that_was_taken_for_lost_reports_again_at_once() {
        let api = FakeApi::start();
        let description = NodeDescription {
            name: "n".to_owned(),
            ip: None,
            labels: Vec::new(),
            machine: Machine::default(),
            runtime: RuntimeVersion { name: "fake".to_owned(), version: "0".to_owned() },
        };
        let registered = register(&api.client(), &description).await;
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        let cache: Cache<Node> =
            Reflector::spawn(api.client(), ReflectorOptions::default(), &mut tasks, stop.clone());
        let (_health, health) = watch::channel(Health::Ready);
        let reporter = StatusReporter {
            client: api.client(),
            description,
            last: registered.status.unwrap_or_default(),
            health,
            shown: cache.subscribe(),
        };
        tasks.spawn(reporter.run(stop.clone()));
        shows(&cache, "True").await;
        let lost = api.modify::<Node>("", "n", |node| {
            for condition in node.status.iter_mut().flat_map(|status| status.conditions.iter_mut().flatten())
            {
                condition.status = "Unknown".to_owned();
            }
        });
        cache.wait_for_revision(client::object::revision(&lost)).await;
        shows(&cache, "True").await;
        stop.cancel();
        while tasks.join_next().await.is_some() {}
    }
}
