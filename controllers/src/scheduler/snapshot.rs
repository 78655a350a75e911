//! The cluster as the scheduler sees it: nodes with the pods on them, kept up to date change by change.
//!
//! A pod stands here from the moment its placement is decided (assumed), before the binding is written. Pods whose node is
//! not known (yet, or any more) wait in `strays`, so that the order in which nodes and pods arrive does not matter.
//! The order of `nodes` depends only on the order of changes, never on hashing.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};

use super::pod_info::{HostPort, PodInfo, PodKey};
use super::resources::{self, Resources, ScoredRequest};

/// All nodes with their pods.
#[derive(Debug, Default)]
pub struct Snapshot {
    nodes: Vec<NodeInfo>,
    positions: HashMap<Arc<str>, usize>,
    placements: HashMap<PodKey, Arc<str>>,
    strays: HashMap<Arc<str>, HashMap<PodKey, Arc<PodInfo>>>,
    image_nodes: HashMap<String, usize>,
    generation: u64,
}

/// One node, what it offers, and what its pods take.
#[derive(Debug)]
pub struct NodeInfo {
    /// The node's name.
    pub name: Arc<str>,
    /// The object.
    pub node: Arc<Node>,
    /// What pods may take together.
    pub allocatable: Resources,
    /// How many pods it takes.
    pub allocatable_pods: i64,
    /// What its pods ask for together.
    pub requested: Resources,
    /// The same with defaults, for scores.
    pub scored_requested: ScoredRequest,
    /// Host ports that its pods take.
    pub host_ports: Vec<HostPort>,
    /// Images it holds, by every name, in bytes.
    pub images: HashMap<String, i64>,
    /// Rises with every change of this node or its pods.
    pub generation: u64,
    pods: HashMap<PodKey, Arc<PodInfo>>,
    pods_by_controller: HashMap<String, i64>,
}

impl Snapshot {
    /// Returns the nodes; the order is stable between changes.
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    /// Returns one node.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.get(*self.positions.get(name)?)
    }

    /// Returns the name of the node that a pod is placed on, assumed or bound.
    pub fn placement(&self, key: &PodKey) -> Option<&Arc<str>> {
        self.placements.get(key)
    }

    /// Returns a placed pod, assumed or bound.
    pub fn pod(&self, key: &PodKey) -> Option<&Arc<PodInfo>> {
        let name = self.placements.get(key)?;
        match self.node(name) {
            Some(info) => info.pods.get(key),
            None => self.strays.get(name)?.get(key),
        }
    }

    /// Returns on how many nodes an image is present.
    pub fn nodes_with_image(&self, image: &str) -> usize {
        self.image_nodes.get(image).copied().unwrap_or(0)
    }

    /// Returns a number that rises with every change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Adds a node or takes over its new version.
    pub fn set_node(&mut self, name: &str, node: Arc<Node>) {
        self.generation += 1;
        if let Some(info) = self.positions.get(name).and_then(|position| self.nodes.get_mut(*position)) {
            forget_images(&mut self.image_nodes, info);
            info.take_over(node);
            info.generation = self.generation;
            count_images(&mut self.image_nodes, info);
            return;
        }
        let name: Arc<str> = name.into();
        let mut info = NodeInfo::new(name.clone(), node);
        info.generation = self.generation;
        for pod in self.strays.remove(&name).into_iter().flat_map(HashMap::into_values) {
            info.add(pod);
        }
        count_images(&mut self.image_nodes, &info);
        self.positions.insert(name, self.nodes.len());
        self.nodes.push(info);
    }

    /// Removes a node; pods that are still bound to it are kept in case it returns.
    pub fn remove_node(&mut self, name: &str) {
        let Some(position) = self.positions.remove(name) else { return };
        self.generation += 1;
        let info = self.nodes.swap_remove(position);
        forget_images(&mut self.image_nodes, &info);
        if let Some(moved) = self.nodes.get(position) {
            self.positions.insert(moved.name.clone(), position);
        }
        if !info.pods.is_empty() {
            self.strays.insert(info.name, info.pods);
        }
    }

    /// Places a pod on a node, or takes over its new version; an earlier placement elsewhere ends.
    pub fn set_pod(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.remove_pod(&pod.key);
        self.generation += 1;
        let position = self.positions.get(node).copied();
        let name = match position.and_then(|position| self.nodes.get_mut(position)) {
            Some(info) => {
                info.generation = self.generation;
                info.add(pod.clone());
                info.name.clone()
            }
            None => {
                let name: Arc<str> = node.into();
                self.strays.entry(name.clone()).or_default().insert(pod.key.clone(), pod.clone());
                name
            }
        };
        self.placements.insert(pod.key.clone(), name);
    }

    /// Removes a pod and returns it with its node's name.
    pub fn remove_pod(&mut self, key: &PodKey) -> Option<(Arc<PodInfo>, Arc<str>)> {
        let name = self.placements.remove(key)?;
        self.generation += 1;
        let position = self.positions.get(&name).copied();
        let pod = match position.and_then(|position| self.nodes.get_mut(position)) {
            Some(info) => {
                info.generation = self.generation;
                info.remove(key)
            }
            None => self.remove_stray(key, &name),
        };
        pod.map(|pod| (pod, name))
    }

    fn remove_stray(&mut self, key: &PodKey, node: &Arc<str>) -> Option<Arc<PodInfo>> {
        let pods = self.strays.get_mut(node)?;
        let pod = pods.remove(key);
        if pods.is_empty() {
            self.strays.remove(node);
        }
        pod
    }
}

impl NodeInfo {
    fn new(name: Arc<str>, node: Arc<Node>) -> Self {
        let mut info = Self {
            name,
            node: node.clone(),
            allocatable: Resources::default(),
            allocatable_pods: 0,
            requested: Resources::default(),
            scored_requested: ScoredRequest::default(),
            host_ports: Vec::new(),
            images: HashMap::new(),
            generation: 0,
            pods: HashMap::new(),
            pods_by_controller: HashMap::new(),
        };
        info.take_over(node);
        info
    }

    /// Returns the pods on this node, in no particular order.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.pods.values()
    }

    /// Returns how many pods are on this node.
    pub fn pod_count(&self) -> i64 {
        i64::try_from(self.pods.len()).unwrap_or(i64::MAX)
    }

    /// Returns how many pods of a controller are here and not terminating.
    pub fn pods_of_controller(&self, controller_uid: &str) -> i64 {
        self.pods_by_controller.get(controller_uid).copied().unwrap_or(0)
    }

    /// Returns the value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.node.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Returns the node's taints.
    pub fn taints(&self) -> impl Iterator<Item = &Taint> {
        self.node.spec.iter().flat_map(|spec| spec.taints.iter().flatten())
    }

    fn take_over(&mut self, node: Arc<Node>) {
        let status = node.status.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        self.allocatable = allocatable.map(Resources::allocatable).unwrap_or_default();
        self.allocatable_pods = allocatable.map_or(0, resources::pod_count);
        let images = status.into_iter().flat_map(|status| status.images.iter().flatten());
        self.images = images
            .flat_map(|image| {
                let size = image.size_bytes.unwrap_or(0);
                image.names.iter().flatten().map(move |name| (name.clone(), size))
            })
            .collect();
        self.node = node;
    }

    fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.scored_requested.add(pod.scored_request);
        self.host_ports.extend(pod.host_ports.iter().cloned());
        if let Some(controller) = counted_controller(&pod) {
            *self.pods_by_controller.entry(controller.to_owned()).or_default() += 1;
        }
        self.pods.insert(pod.key.clone(), pod);
    }

    fn remove(&mut self, key: &PodKey) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(key)?;
        self.requested.subtract(&pod.requests);
        self.scored_requested.subtract(pod.scored_request);
        for port in &pod.host_ports {
            if let Some(position) = self.host_ports.iter().position(|taken| taken == port) {
                self.host_ports.swap_remove(position);
            }
        }
        if let Some(controller) = counted_controller(&pod)
            && let Some(count) = self.pods_by_controller.get_mut(controller)
        {
            *count -= 1;
            if *count == 0 {
                self.pods_by_controller.remove(controller);
            }
        }
        Some(pod)
    }
}

/// Terminating pods make room soon, so spreading does not count them.
fn counted_controller(pod: &PodInfo) -> Option<&str> {
    pod.controller_uid.as_deref().filter(|_| !pod.is_terminating())
}

fn count_images(image_nodes: &mut HashMap<String, usize>, info: &NodeInfo) {
    for image in info.images.keys() {
        *image_nodes.entry(image.clone()).or_default() += 1;
    }
}

fn forget_images(image_nodes: &mut HashMap<String, usize>, info: &NodeInfo) {
    for image in info.images.keys() {
        if let Some(count) = image_nodes.get_mut(image) {
            *count -= 1;
            if *count == 0 {
                image_nodes.remove(image);
            }
        }
    }
}

#[cfg(test)]
impl Snapshot {
    /// Takes a node out, for tests of plugins that look at one node.
    pub(crate) fn take_node(&mut self, name: &str) -> NodeInfo {
        let position = self.positions.remove(name).unwrap();
        self.nodes.swap_remove(position)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scheduler::fixtures::{node_object, pod, requesting};

    fn used(snapshot: &Snapshot, node: &str) -> (i64, i64) {
        let node = snapshot.node(node).unwrap();
        (node.pod_count(), node.requested.milli_cpu)
    }

    #[test]
    fn pods_count_where_they_are_and_stop_counting_when_they_go() {
        let mut snapshot = Snapshot::default();
        snapshot.set_node("n1", node_object("n1", json!({})));
        snapshot.set_node("n2", node_object("n2", json!({})));
        let first = Arc::new(requesting("a", json!({ "cpu": "1" })));
        snapshot.set_pod(first.clone(), "n1");
        assert_eq!(used(&snapshot, "n1"), (1, 1000));
        snapshot.set_pod(Arc::new(requesting("a", json!({ "cpu": "2" }))), "n2");
        assert_eq!((used(&snapshot, "n1"), used(&snapshot, "n2")), ((0, 0), (1, 2000)));
        let (_, node) = snapshot.remove_pod(&first.key).unwrap();
        assert_eq!((&*node, used(&snapshot, "n2")), ("n2", (0, 0)));
        assert!(snapshot.remove_pod(&first.key).is_none());
    }

    #[test]
    fn pods_wait_for_their_node() {
        let mut snapshot = Snapshot::default();
        let early = Arc::new(requesting("a", json!({ "cpu": "1" })));
        snapshot.set_pod(early.clone(), "n1");
        snapshot.set_pod(Arc::new(pod("b", json!({}))), "n1");
        snapshot.remove_pod(&early.key);
        snapshot.set_node("n1", node_object("n1", json!({})));
        assert_eq!(used(&snapshot, "n1"), (1, 0));
        snapshot.remove_node("n1");
        assert!(snapshot.node("n1").is_none());
        snapshot.set_node("n1", node_object("n1", json!({})));
        assert_eq!(used(&snapshot, "n1"), (1, 0));
    }

    #[test]
    fn images_are_counted_over_nodes() {
        let holding = |name: &str| {
            node_object(name, json!({ "status": { "images": [{ "names": ["web:1"], "sizeBytes": 7 }] } }))
        };
        let mut snapshot = Snapshot::default();
        snapshot.set_node("n1", holding("n1"));
        snapshot.set_node("n2", holding("n2"));
        assert_eq!(snapshot.nodes_with_image("web:1"), 2);
        snapshot.set_node("n1", node_object("n1", json!({})));
        snapshot.remove_node("n2");
        assert_eq!(snapshot.nodes_with_image("web:1"), 0);
    }

    #[test]
    fn generations_rise_with_every_change_of_a_node() {
        let mut snapshot = Snapshot::default();
        snapshot.set_node("n1", node_object("n1", json!({})));
        snapshot.set_node("n2", node_object("n2", json!({})));
        let before = snapshot.node("n1").unwrap().generation;
        snapshot.set_pod(Arc::new(pod("a", json!({}))), "n1");
        let after = snapshot.node("n1").unwrap().generation;
        assert!(before < after && after == snapshot.generation());
        assert!(snapshot.node("n2").unwrap().generation < after);
    }
}
