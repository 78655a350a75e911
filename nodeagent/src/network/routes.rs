//! Routes to the pods of other nodes: one per node, by the way that leads to the node itself.
//!
//! That suits nodes on one link, and nodes in namespaces of one machine, whose hub forwards. It does not suit nodes behind
//! routers that know nothing of pods: these need an overlay, which does not exist yet.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use client::Cache;
use k8s_openapi::api::core::v1::Node;
use tokio_util::sync::CancellationToken;

use crate::network::plan::ROUTE_PROTOCOL;
use crate::network::{Ipv4Net, Netns, NetworkError, tool};

/// How soon a refused route is tried again: the way to a node may appear at any time.
const RETRY: Duration = Duration::from_secs(5);

/// Whose routes to keep where.
#[derive(Clone, Debug)]
pub struct RoutesConfig {
    pub netns: Netns,
    /// The node that the namespace belongs to; it has links to its own pods. `None` where no node lives.
    pub own_node: Option<String>,
    /// The pods of all nodes; routes outside are not ours to make.
    pub pod_range: Ipv4Net,
}

/// The pods of one node and where the node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeRoute {
    pub pods: Ipv4Net,
    pub address: Ipv4Addr,
}

impl NodeRoute {
    /// Reads a node's route from its object, once it has both a pod range and an internal address.
    #[must_use]
    pub fn of(node: &Node) -> Option<Self> {
        let pods = node.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok()?;
        let addresses = node.status.as_ref()?.addresses.as_ref()?;
        let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
        let address = internal.filter_map(|address| address.address.parse().ok()).next()?;
        Some(Self { pods, address })
    }
}

/// Keeps the routes as the nodes say until shutdown; the routes stay.
///
/// # Errors
/// None today: a route that the kernel refuses is logged and tried again.
pub async fn run(
    config: RoutesConfig,
    nodes: Cache<Node>,
    shutdown: CancellationToken,
) -> Result<(), NetworkError> {
    let mut installed = BTreeMap::new();
    let mut changes = nodes.subscribe();
    loop {
        let wanted = wanted(&config, nodes.list().iter().map(AsRef::as_ref));
        let is_done = apply(&config.netns, &mut installed, wanted).await;
        let retry =
            async { if is_done { std::future::pending().await } else { tokio::time::sleep(RETRY).await } };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _change = changes.recv() => while changes.try_recv().is_some() {},
            () = retry => {}
        }
    }
}

fn wanted<'a>(config: &RoutesConfig, nodes: impl Iterator<Item = &'a Node>) -> BTreeMap<Ipv4Net, Ipv4Addr> {
    nodes
        .filter(|node| node.metadata.name != config.own_node)
        .filter_map(NodeRoute::of)
        .filter(|route| config.pod_range.covers(route.pods))
        .map(|route| (route.pods, route.address))
        .collect()
}

/// Makes `installed` equal to `wanted`, as far as the kernel allows; returns whether it is.
async fn apply(
    netns: &Netns,
    installed: &mut BTreeMap<Ipv4Net, Ipv4Addr>,
    wanted: BTreeMap<Ipv4Net, Ipv4Addr>,
) -> bool {
    let gone: Vec<Ipv4Net> = installed.keys().filter(|pods| !wanted.contains_key(pods)).copied().collect();
    for pods in gone {
        let removed = netns.try_run(move || delete_route(pods)).await;
        report(pods, "route removed", removed);
        installed.remove(&pods);
    }
    let missing: Vec<_> =
        wanted.iter().filter(|(pods, address)| installed.get(pods) != Some(address)).collect();
    for (pods, address) in missing {
        let (pods, address) = (*pods, *address);
        if report(pods, "route added", netns.try_run(move || replace_route(pods, address)).await) {
            installed.insert(pods, address);
        }
    }
    installed.len() == wanted.len()
}

fn report(pods: Ipv4Net, done: &'static str, outcome: Result<(), NetworkError>) -> bool {
    match &outcome {
        Ok(()) => tracing::info!(%pods, "{done}"),
        Err(error) => tracing::warn!(%pods, %error, "route to a node's pods"),
    }
    outcome.is_ok()
}

fn delete_route(pods: Ipv4Net) -> Result<(), NetworkError> {
    tool::ip_batch(&[format!("route flush exact {pods} proto {ROUTE_PROTOCOL}")])
}

fn replace_route(pods: Ipv4Net, node: Ipv4Addr) -> Result<(), NetworkError> {
    let answer = tool::ip_json(&["-json", "-4", "route", "get", &node.to_string()])?;
    let field = |name| answer.first().and_then(|route| route.get(name)).and_then(serde_json::Value::as_str);
    let device = field("dev")
        .ok_or_else(|| NetworkError::Answer { program: "ip", answer: format!("no way to {node}") })?;
    let hop = field("gateway").map_or_else(|| node.to_string(), str::to_owned);
    tool::ip_batch(&[format!("route replace {pods} via {hop} dev {device} onlink proto {ROUTE_PROTOCOL}")])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str, pods: &str, address: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"podCIDR": pods},
            "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]},
        }))
        .unwrap()
    }

    #[test]
    fn other_nodes_pods_are_routed_and_own_or_foreign_ones_are_not() {
        let config = RoutesConfig {
            netns: Netns::Own,
            own_node: Some("a".to_owned()),
            pod_range: "10.244.0.0/16".parse().unwrap(),
        };
        let nodes = [
            node("a", "10.244.0.0/24", "100.64.0.2"),
            node("b", "10.244.1.0/24", "100.64.0.3"),
            node("c", "0.0.0.0/0", "100.64.0.4"),
            Node::default(),
        ];
        let routes = wanted(&config, nodes.iter());
        let expected = ("10.244.1.0/24".parse().unwrap(), "100.64.0.3".parse().unwrap());
        assert_eq!(routes.into_iter().collect::<Vec<_>>(), vec![expected]);
    }
}
