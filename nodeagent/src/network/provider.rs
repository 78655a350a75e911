//! The pod network as the network plugin's socket sees it.

use anyhow::Context as _;
use async_trait::async_trait;

use crate::cni::{self, NetworkProvider, SandboxNetwork};
use crate::network::PodNetwork;

/// The one device that a sandbox gets.
const DEVICE: &str = "eth0";

#[async_trait]
impl NetworkProvider for PodNetwork {
    async fn add(&self, sandbox: &SandboxNetwork) -> anyhow::Result<cni::PodAddress> {
        anyhow::ensure!(sandbox.interface == DEVICE, "pods get {DEVICE}, not {:?}", sandbox.interface);
        let netns = sandbox.netns.as_deref().context("the request names no network namespace")?;
        let pod_key = format!("{}/{}", sandbox.pod_namespace, sandbox.pod_name);
        let place = self.attach(netns, &pod_key, &sandbox.sandbox_id).await?;
        Ok(cni::PodAddress { ip: place.address.into(), prefix: 32, gateway: Some(place.gateway.into()) })
    }

    async fn remove(&self, sandbox: &SandboxNetwork) -> anyhow::Result<()> {
        Ok(self.detach(&sandbox.sandbox_id).await?)
    }
}
