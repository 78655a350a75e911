//! NodePorts: a host port can be taken once per node, protocol and address.

use crate::scheduler::framework::{ClusterEvent, FilterPlugin, NodeFilter, PluginName, PreFilter, Reason};
use crate::scheduler::pod_info::{HostPort, PodInfo};
use crate::scheduler::snapshot::{NodeInfo, Snapshot};

const REASON: &str = "node(s) didn't have free ports for the requested pod ports";

/// The plugin.
pub struct NodePorts;

struct Wanted<'a>(&'a [HostPort]);

impl FilterPlugin for NodePorts {
    fn name(&self) -> PluginName {
        "NodePorts"
    }

    fn wakes_on(&self) -> &'static [ClusterEvent] {
        &[ClusterEvent::NodeAdded, ClusterEvent::AssignedPodDeleted]
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _snapshot: &'a Snapshot) -> PreFilter<'a> {
        if pod.host_ports.is_empty() {
            return PreFilter::Skip;
        }
        PreFilter::Test(Box::new(Wanted(&pod.host_ports)))
    }
}

impl NodeFilter for Wanted<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Vec<Reason>> {
        let has_conflict =
            self.0.iter().any(|port| node.host_ports.iter().any(|taken| taken.conflicts_with(port)));
        if has_conflict { Err(vec![REASON.into()]) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::scheduler::fixtures::{check_filter, node_with_pods, pod};

    fn check(taken: Value, wanted: Value, reasons: &[&str]) {
        let with_port =
            |name: &str, port: Value| pod(name, json!({ "containers": [{ "name": "c", "ports": [port] }] }));
        let node = node_with_pods("n", json!({}), vec![with_port("taken", taken)]);
        check_filter(&NodePorts, &with_port("wanted", wanted), &node, reasons);
    }

    #[test]
    fn ports_conflict_by_number_protocol_and_address() {
        let port = |fields: Value| fields;
        let plain = json!({ "containerPort": 80, "hostPort": 80 });
        check(plain.clone(), plain.clone(), &[REASON]);
        check(plain.clone(), port(json!({ "containerPort": 80, "hostPort": 81 })), &[]);
        check(plain.clone(), port(json!({ "containerPort": 80, "hostPort": 80, "protocol": "UDP" })), &[]);
        check(
            plain.clone(),
            port(json!({ "containerPort": 80, "hostPort": 80, "hostIP": "10.0.0.1" })),
            &[REASON],
        );
        check(plain, port(json!({ "containerPort": 80 })), &[]);
        let first = json!({ "containerPort": 80, "hostPort": 80, "hostIP": "10.0.0.1" });
        let second = json!({ "containerPort": 80, "hostPort": 80, "hostIP": "10.0.0.2" });
        check(first, second, &[]);
    }

    #[test]
    fn host_network_takes_container_ports() {
        let spec = json!({ "hostNetwork": true, "containers": [{ "name": "c", "ports": [{ "containerPort": 80 }] }] });
        let node = node_with_pods("n", json!({}), vec![pod("taken", spec.clone())]);
        check_filter(&NodePorts, &pod("wanted", spec), &node, &[REASON]);
    }
}
