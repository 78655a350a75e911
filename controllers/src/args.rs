//! Settings of the controller manager, with upstream's defaults.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::metrics::{LeaderStatus, Metrics};

/// Settings of the controller manager.
#[derive(Clone, Debug)]
pub struct Config {
    /// Unique per process start; shown as the holder of the lock.
    pub identity: String,
    /// Pod addresses of the whole cluster, for example `10.244.0.0/16`.
    pub cluster_cidr: String,
    /// Prefix length of each node's share of it.
    pub node_cidr_mask: u8,
    /// The cluster's CA, published to every namespace.
    pub ca_pem: String,
    /// How long the lock stays with a leader that is silent.
    pub lease_duration: Duration,
    /// Silence of a node after which its state is unknown.
    pub node_monitor_grace: Duration,
    /// How long pods stay on a node that is not ready or unreachable unless they say otherwise.
    pub pod_eviction_timeout: Duration,
    /// Share of not-ready nodes, in percent, from which evictions stop.
    pub unhealthy_nodes_percent_max: u8,
    /// How long a node must be gone before its pods are removed.
    pub orphan_pod_quarantine: Duration,
    /// Pause between each decision and its writes. Zero; the fencing test stops a leader within it.
    pub commit_delay: Duration,
    pub metrics: Metrics,
    /// Where it is shown who leads; shared with the scheduler of the same process.
    pub leader_status: LeaderStatus,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            identity: format!("keelson_{}", uuid::Uuid::new_v4()),
            cluster_cidr: "10.244.0.0/16".to_owned(),
            node_cidr_mask: 24,
            ca_pem: String::new(),
            // A killed leader is replaced within this time; its writes are fenced from the first moment.
            lease_duration: Duration::from_secs(15),
            node_monitor_grace: Duration::from_secs(40),
            pod_eviction_timeout: Duration::from_secs(300),
            unhealthy_nodes_percent_max: 55,
            orphan_pod_quarantine: Duration::from_secs(40),
            commit_delay: Duration::ZERO,
            metrics: Metrics::default(),
            leader_status: LeaderStatus::default(),
        }
    }
}

impl Config {
    /// Checks what can be checked before anything runs.
    ///
    /// # Errors
    /// The setting that cannot work, by name.
    pub fn validate(&self) -> anyhow::Result<()> {
        ensure!(!self.identity.is_empty(), "identity is empty");
        ensure!(self.lease_duration >= Duration::from_secs(3), "lease duration is below 3 s");
        let (_, prefix) = self.cluster_network()?;
        ensure!(
            (prefix..=30).contains(&self.node_cidr_mask),
            "node CIDR mask /{} does not fit into cluster CIDR {}",
            self.node_cidr_mask,
            self.cluster_cidr
        );
        Ok(())
    }

    /// Returns the first address and the prefix length of the cluster CIDR.
    ///
    /// # Errors
    /// When it is no IPv4 network.
    pub fn cluster_network(&self) -> anyhow::Result<(Ipv4Addr, u8)> {
        let bad = || format!("cluster CIDR {:?} is no IPv4 network", self.cluster_cidr);
        let (address, prefix) = self.cluster_cidr.split_once('/').with_context(bad)?;
        let address: Ipv4Addr = address.parse().with_context(bad)?;
        let prefix: u8 = prefix.parse().with_context(bad)?;
        ensure!(prefix <= 32, "{}", bad());
        Ok((address, prefix))
    }
}
