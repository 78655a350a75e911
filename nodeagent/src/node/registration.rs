//! The Node object: what it says, and how it comes into the API.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use client::{ApiError, Client, Patch, WriteOptions};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeCondition, NodeStatus, NodeSystemInfo};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;

use super::facts::Machine;
use super::heartbeat::Health;
use crate::config::PODS_MAX;
use crate::runtime::RuntimeVersion;

/// Kubernetes version that the agent acts as.
const KUBERNETES_VERSION: &str = "v1.36.0";
/// Pause between tries to register.
const RETRY: Duration = Duration::from_secs(2);

/// Everything the Node object is made from.
#[derive(Debug, Clone)]
pub struct NodeDescription {
    /// The node's name.
    pub name: String,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// Labels beside the usual ones.
    pub labels: Vec<(String, String)>,
    /// The machine.
    pub machine: Machine,
    /// The runtime.
    pub runtime: RuntimeVersion,
}

impl NodeDescription {
    fn labels(&self) -> BTreeMap<String, String> {
        let arch = go_architecture();
        let usual = [
            ("kubernetes.io/hostname", self.name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", arch),
            ("beta.kubernetes.io/os", "linux"),
            ("beta.kubernetes.io/arch", arch),
        ];
        let usual = usual.map(|(key, value)| (key.to_owned(), value.to_owned()));
        usual.into_iter().chain(self.labels.iter().cloned()).collect()
    }

    /// Returns the status at `now`; conditions keep their transition times from `last`.
    #[must_use]
    pub fn status(&self, health: &Health, last: &NodeStatus, now: Timestamp) -> NodeStatus {
        let amounts = BTreeMap::from([
            ("cpu".to_owned(), Quantity(self.machine.cpu_count.to_string())),
            ("memory".to_owned(), Quantity(format!("{}Ki", self.machine.memory_bytes / 1024))),
            ("ephemeral-storage".to_owned(), Quantity(format!("{}Ki", self.machine.storage_bytes / 1024))),
            ("pods".to_owned(), Quantity(PODS_MAX.to_string())),
        ]);
        let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
        let internal = self.ip.map(|ip| address("InternalIP", ip.to_string()));
        let addresses = internal.into_iter().chain([address("Hostname", self.name.clone())]).collect();
        NodeStatus {
            addresses: Some(addresses),
            allocatable: Some(amounts.clone()),
            capacity: Some(amounts),
            conditions: Some(conditions(health, last.conditions.as_deref().unwrap_or_default(), now)),
            node_info: Some(self.node_info()),
            ..NodeStatus::default()
        }
    }

    fn node_info(&self) -> NodeSystemInfo {
        NodeSystemInfo {
            architecture: go_architecture().to_owned(),
            boot_id: self.machine.boot_id.clone(),
            container_runtime_version: format!("{}://{}", self.runtime.name, self.runtime.version),
            kernel_version: self.machine.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: format!("{KUBERNETES_VERSION}-keelson.{}", env!("CARGO_PKG_VERSION")),
            machine_id: self.machine.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: self.machine.os_image.clone(),
            system_uuid: self.machine.machine_id.clone(),
            ..NodeSystemInfo::default()
        }
    }
}

/// Node objects spell architectures as Go does.
fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn conditions(health: &Health, last: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    let (ready, reason, message) = match health {
        Health::Ready => (true, "KubeletReady", "the node agent is posting ready status".to_owned()),
        Health::NotReady(why) => (false, "KubeletNotReady", why.clone()),
    };
    let all = [
        (
            "MemoryPressure",
            false,
            "KubeletHasSufficientMemory",
            "the node has sufficient memory available".to_owned(),
        ),
        ("DiskPressure", false, "KubeletHasNoDiskPressure", "the node has no disk pressure".to_owned()),
        ("PIDPressure", false, "KubeletHasSufficientPID", "the node has sufficient PID available".to_owned()),
        ("Ready", ready, reason, message),
    ];
    let condition = |(kind, holds, reason, message): (&str, bool, &str, String)| {
        let status = if holds { "True" } else { "False" };
        let before = last.iter().find(|condition| condition.type_ == kind && condition.status == status);
        NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: before
                .and_then(|condition| condition.last_transition_time.clone())
                .or(Some(Time(now))),
        }
    };
    all.into_iter().map(condition).collect()
}

/// Creates the Node, or brings the labels of an existing one up to date; tries until the API takes it.
pub async fn register(client: &Client, description: &NodeDescription) -> Node {
    loop {
        match try_register(client, description).await {
            Ok(node) => return node,
            Err(error) => tracing::warn!(node = description.name, %error, "node is not registered yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn try_register(client: &Client, description: &NodeDescription) -> Result<Node, ApiError> {
    let labels = description.labels();
    let metadata = ObjectMeta {
        name: Some(description.name.clone()),
        labels: Some(labels.clone()),
        ..ObjectMeta::default()
    };
    let health = Health::NotReady("the node agent is starting".to_owned());
    let status = description.status(&health, &NodeStatus::default(), client.outside().now());
    let node = Node { metadata, spec: None, status: Some(status) };
    match client.create(&node, &WriteOptions::default()).await {
        Err(error) if error.is_already_exists() => {}
        other => return other,
    }
    let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
    client.patch::<Node>("", &description.name, "", &patch, &WriteOptions::default()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transition_times_change_only_with_the_status() {
        let description = NodeDescription {
            name: "n".to_owned(),
            ip: None,
            labels: Vec::new(),
            machine: Machine::default(),
            runtime: RuntimeVersion { name: "fake".to_owned(), version: "0".to_owned() },
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        let transition = |status: &NodeStatus| {
            let ready = status
                .conditions
                .as_ref()
                .unwrap()
                .iter()
                .find(|condition| condition.type_ == "Ready")
                .unwrap();
            (ready.status.clone(), ready.last_transition_time.clone().unwrap().0)
        };
        let first = description.status(&Health::Ready, &NodeStatus::default(), at(1));
        let second = description.status(&Health::Ready, &first, at(2));
        assert_eq!(transition(&second), ("True".to_owned(), at(1)));
        let third = description.status(&Health::NotReady("x".to_owned()), &second, at(3));
        assert_eq!(transition(&third), ("False".to_owned(), at(3)));
    }
}
