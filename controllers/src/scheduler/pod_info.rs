//! What the scheduler needs to know of a pod, worked out once per version of the object.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::resources::{self, Resources, ScoredRequest};

/// The host address that stands for all addresses of a node.
const ANY_ADDRESS: &str = "0.0.0.0";

/// Namespace and name of a pod. Two pods may follow each other under one key; their uids differ.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodKey {
    /// The namespace.
    pub namespace: String,
    /// The name inside the namespace.
    pub name: String,
}

/// A port that a pod takes on its node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// The address of the node, `0.0.0.0` for all of them.
    pub address: String,
    /// TCP, UDP or SCTP.
    pub protocol: String,
    /// The port number.
    pub port: i32,
}

/// One version of a pod with what filters and scores read from it.
#[derive(Clone, Debug)]
pub struct PodInfo {
    /// Namespace and name.
    pub key: PodKey,
    /// Tells this pod from an earlier one of the same name.
    pub uid: String,
    /// The object itself.
    pub pod: Arc<Pod>,
    /// Its spec, empty when the object has none.
    pub spec: Arc<PodSpec>,
    /// What it needs on a node.
    pub requests: Resources,
    /// What it counts for when nodes are compared.
    pub scored_request: ScoredRequest,
    /// The ports it takes on its node.
    pub host_ports: Vec<HostPort>,
    /// Uid of the controller that made it; pods of one controller are spread.
    pub controller_uid: Option<String>,
}

impl PodInfo {
    /// Reads a pod; `None` for an object without namespace, name or uid, which no server stores.
    pub fn new(pod: Arc<Pod>) -> Option<Self> {
        let metadata = &pod.metadata;
        let key = PodKey { namespace: metadata.namespace.clone()?, name: metadata.name.clone()? };
        let uid = metadata.uid.clone()?;
        let owners = metadata.owner_references.iter().flatten();
        let controller_uid =
            owners.filter(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone()).next();
        let spec = Arc::new(pod.spec.clone().unwrap_or_default());
        Some(Self {
            requests: resources::pod_requests(&spec),
            scored_request: resources::pod_scored_request(&spec),
            host_ports: host_ports(&spec),
            key,
            uid,
            controller_uid,
            spec,
            pod,
        })
    }

    /// Returns the node it is bound to.
    pub fn node_name(&self) -> Option<&str> {
        self.spec.node_name.as_deref().filter(|name| !name.is_empty())
    }

    /// Returns its priority; a pod without one has 0.
    pub fn priority(&self) -> i32 {
        self.spec.priority.unwrap_or(0)
    }

    /// Returns the name of the scheduler that is to place it.
    pub fn scheduler_name(&self) -> &str {
        self.spec.scheduler_name.as_deref().unwrap_or("default-scheduler")
    }

    /// Returns true once all its containers have ended for good; it then takes nothing from its node.
    pub fn is_finished(&self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// Returns true once somebody asked for its deletion.
    pub fn is_terminating(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Returns true when nothing that placement depends on differs; writes of status then do not matter.
    pub fn places_like(&self, other: &Self) -> bool {
        self.uid == other.uid
            && self.spec == other.spec
            && self.pod.metadata.labels == other.pod.metadata.labels
            && self.is_terminating() == other.is_terminating()
    }
}

impl HostPort {
    /// Returns true when both cannot be taken on one node.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        let addresses_meet =
            self.address == other.address || self.address == ANY_ADDRESS || other.address == ANY_ADDRESS;
        self.port == other.port && self.protocol == other.protocol && addresses_meet
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let uses_host_network = spec.host_network == Some(true);
    let sidecars = spec.init_containers.iter().flatten().filter(|container| resources::is_sidecar(container));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| ports_of(container, uses_host_network))
        .collect()
}

/// In the host's network every container port is taken on the host.
fn ports_of(container: &Container, uses_host_network: bool) -> impl Iterator<Item = HostPort> + '_ {
    container.ports.iter().flatten().filter_map(move |port| {
        let implied = uses_host_network.then_some(port.container_port);
        let number = port.host_port.filter(|number| *number > 0).or(implied)?;
        Some(HostPort {
            address: port
                .host_ip
                .clone()
                .filter(|ip| !ip.is_empty())
                .unwrap_or_else(|| ANY_ADDRESS.to_owned()),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            port: number,
        })
    })
}
