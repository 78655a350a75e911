//! Brings up the node's network once the cluster gave it a pod range, and keeps it until the node stops.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Node;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::RUNTIME_RETRY;
use crate::cni::{NetworkProvider, PodAddress, SandboxNetwork};
use crate::network::dataplane::{self, DataplaneCaches, DataplaneConfig};
use crate::network::{ClusterId, Ipv4Net, Netns, PodNetwork, PodNetworkConfig};
use crate::node::Health;
use crate::runtime::Runtime;

/// The pod network as the plugin sees it: not there before the node has a range.
#[derive(Debug, Default)]
pub(super) struct PodProvider {
    network: OnceLock<PodNetwork>,
}

#[async_trait]
impl NetworkProvider for PodProvider {
    async fn add(&self, sandbox: &SandboxNetwork) -> anyhow::Result<PodAddress> {
        self.network.get().context("the node has no pod range yet")?.add(sandbox).await
    }

    async fn remove(&self, sandbox: &SandboxNetwork) -> anyhow::Result<()> {
        self.network.get().context("the node has no pod range yet")?.remove(sandbox).await
    }
}

/// What the node's network is made from.
pub(super) struct NodeNetwork {
    pub(super) node_name: String,
    pub(super) cluster: ClusterId,
    pub(super) pod_range: Ipv4Net,
    pub(super) service_range: Ipv4Net,
    /// Address and domain of the cluster's DNS.
    pub(super) dns: Option<(Ipv4Addr, String)>,
    /// Where given addresses are written down.
    pub(super) state_file: PathBuf,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) caches: DataplaneCaches,
    pub(super) health: watch::Sender<Health>,
}

impl NodeNetwork {
    /// Runs the node's network until the token is cancelled, then removes its routes and rules.
    pub(super) async fn run(self, provider: Arc<PodProvider>, shutdown: CancellationToken) {
        let Some(range) = shutdown.run_until_cancelled(self.range_of_node()).await else { return };
        let Some(running) = shutdown.run_until_cancelled(running_sandboxes(self.runtime.as_ref())).await
        else {
            return;
        };
        if let Err(error) = self.open(range, &running, &provider).await {
            return self.fail(format!("the pod network: {error:#}"));
        }
        tracing::info!(%range, "pod network is ready");
        self.health.send_replace(Health::Ready);
        let config = DataplaneConfig {
            cluster: self.cluster,
            netns: Netns::Own,
            node: Some((self.node_name.clone(), range)),
            pod_range: self.pod_range,
            service_range: self.service_range,
            dns: self.dns.clone(),
        };
        if let Err(error) = dataplane::run(config.clone(), self.caches.clone(), shutdown.clone()).await {
            self.fail(format!("services: {error}"));
        }
        shutdown.cancelled().await;
        if let Err(error) = dataplane::remove(&config).await {
            tracing::warn!(%error, "routes and rules of the node stay");
        }
    }

    fn fail(&self, message: String) {
        tracing::error!(message, "the node has no network");
        self.health.send_replace(Health::NotReady(message));
    }

    /// Waits until the cluster gave the node its range.
    async fn range_of_node(&self) -> Ipv4Net {
        let mut changes = self.caches.nodes.subscribe();
        loop {
            let change = changes.recv().await;
            if change.name == self.node_name
                && let Some(range) = pod_range(&change.object)
            {
                return range;
            }
        }
    }

    /// Opens the pod network: running sandboxes keep their addresses, what nobody owns any more goes.
    async fn open(
        &self,
        range: Ipv4Net,
        running: &BTreeSet<String>,
        provider: &PodProvider,
    ) -> anyhow::Result<()> {
        let (cluster, state_file) = (self.cluster, self.state_file.clone());
        let config = PodNetworkConfig { cluster, netns: Netns::Own, range, state_file, mtu: None };
        let network = PodNetwork::start(config).await?;
        network.retain(running).await.context("left-over pod links")?;
        // This runs once per start, so the cell is empty.
        let _was_empty = provider.network.set(network);
        Ok(())
    }
}

/// Returns the ids of running sandboxes, once the runtime lists them: it may be starting again, and a node without a network would stay one.
async fn running_sandboxes(runtime: &dyn Runtime) -> BTreeSet<String> {
    loop {
        match runtime.sandboxes().await {
            Ok(sandboxes) => return sandboxes.into_iter().map(|sandbox| sandbox.id.0).collect(),
            Err(error) => tracing::warn!(%error, "the pod network waits for the runtime"),
        }
        tokio::time::sleep(RUNTIME_RETRY).await;
    }
}

fn pod_range(node: &Node) -> Option<Ipv4Net> {
    node.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::runtime::fake::{FakeImages, FakeRuntime, FakeTimes};

    #[tokio::test(start_paused = true)]
    async fn a_runtime_that_does_not_answer_at_first_is_asked_again() {
        let times = FakeTimes { sandbox: Duration::ZERO, container: Duration::ZERO };
        let runtime = FakeRuntime::new(FakeImages::All, times, [10, 0, 0, 1].into());
        runtime.fail_lists(3);
        assert!(runtime.sandboxes().await.is_err());
        assert_eq!(running_sandboxes(&runtime).await, BTreeSet::new());
        assert!(runtime.sandboxes().await.is_ok());
    }
}
