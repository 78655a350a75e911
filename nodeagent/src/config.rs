//! Everything an agent is told from outside.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::Client;
use transport::tls::ClientIdentity;

use crate::cni::NetworkProvider;
use crate::network::ClusterId;
use crate::node::Machine;

/// Pods of one node (upstream's default).
pub const PODS_MAX: u32 = 110;

/// How the agent reaches the API.
#[derive(Debug, Clone)]
pub enum Connection {
    /// All servers, with the node's own certificate (`system:node:<name>`).
    Servers {
        /// `https://host:port` of each.
        servers: Vec<String>,
        /// The node's identity.
        identity: ClientIdentity,
    },
    /// A ready client, in tests and single-process clusters. There is no node channel then.
    Client(Client),
}

/// Which runtime runs the pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// A private containerd, with real containers. Needs root.
    Containerd,
    /// In memory: a hollow node.
    Hollow {
        /// Where its pods' made-up addresses begin.
        first_address: Ipv4Addr,
        /// How long a container takes to start.
        start: Duration,
    },
}

/// What gives pods their network.
#[derive(Debug, Clone)]
pub enum NetworkChoice {
    /// The node's own: routed pairs, routes between nodes, services and DNS.
    Node,
    /// Another one, in tests.
    Given(Arc<dyn NetworkProvider>),
}

/// What an agent is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's name.
    pub node_name: String,
    /// Where images, volumes and logs live.
    pub data_dir: PathBuf,
    /// The API.
    pub connection: Connection,
    /// The runtime.
    pub runtime: RuntimeChoice,
    /// Names that the kernel sees carry this id; `None` takes the data directory's.
    pub cluster: Option<ClusterId>,
    /// The pods' network.
    pub network: NetworkChoice,
    /// What the node says of its machine; `None` asks the kernel.
    pub machine: Option<Machine>,
    /// The node's address; `None` takes the one of the default route.
    pub node_ip: Option<IpAddr>,
    /// Name server of the cluster.
    pub cluster_dns: Option<String>,
    /// Zone of the cluster.
    pub cluster_domain: String,
    /// All pods' range.
    pub pod_cidr: String,
    /// All services' range.
    pub service_cidr: String,
    /// Further labels of the node.
    pub labels: Vec<(String, String)>,
    /// The program that acts as network plugin; `None` takes the own one.
    pub network_plugin: Option<PathBuf>,
    /// Image archives in this directory are imported at start.
    pub image_dir: Option<PathBuf>,
}

impl Config {
    /// Returns a configuration with the cluster's defaults.
    #[must_use]
    pub fn new(
        node_name: impl Into<String>,
        data_dir: impl Into<PathBuf>,
        connection: Connection,
        runtime: RuntimeChoice,
    ) -> Self {
        Self {
            node_name: node_name.into(),
            data_dir: data_dir.into(),
            connection,
            runtime,
            cluster: None,
            network: NetworkChoice::Node,
            machine: None,
            node_ip: None,
            cluster_dns: Some("10.96.0.10".to_owned()),
            cluster_domain: "cluster.local".to_owned(),
            pod_cidr: "10.244.0.0/16".to_owned(),
            service_cidr: "10.96.0.0/16".to_owned(),
            labels: Vec::new(),
            network_plugin: None,
            image_dir: None,
        }
    }
}
