//! Pods and nodes for tests, and the checks that all plugin tests share.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::framework::{FilterPlugin, PreFilter, ScorePlugin};
use super::pod_info::PodInfo;
use super::snapshot::{NodeInfo, Snapshot};

/// Reads a pod; namespace `default` and a uid made of the name are filled in.
pub(crate) fn pod_from(mut object: Value) -> PodInfo {
    let name = object["metadata"]["name"].as_str().expect("tests name their pods").to_owned();
    let metadata = &mut object["metadata"];
    if metadata["namespace"].is_null() {
        metadata["namespace"] = json!("default");
    }
    if metadata["uid"].is_null() {
        metadata["uid"] = json!(format!("uid-{name}"));
    }
    PodInfo::new(Arc::new(serde_json::from_value::<Pod>(object).unwrap())).unwrap()
}

pub(crate) fn pod(name: &str, spec: Value) -> PodInfo {
    pod_from(json!({ "metadata": { "name": name }, "spec": with_containers(spec) }))
}

/// A pod with one container that asks for `requests`.
pub(crate) fn requesting(name: &str, requests: Value) -> PodInfo {
    pod(name, json!({ "containers": [{ "name": "c", "resources": { "requests": requests } }] }))
}

/// A pod of a controller.
pub(crate) fn owned_pod(name: &str, controller_uid: &str) -> PodInfo {
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": controller_uid, "uid": controller_uid, "controller": true,
    });
    pod_from(
        json!({ "metadata": { "name": name, "ownerReferences": [owner] }, "spec": with_containers(json!({})) }),
    )
}

fn with_containers(mut spec: Value) -> Value {
    if spec["containers"].is_null() {
        spec["containers"] = json!([{ "name": "c" }]);
    }
    spec
}

pub(crate) fn labelled(labels: Value) -> Value {
    json!({ "metadata": { "labels": labels } })
}

pub(crate) fn node_object(name: &str, mut object: Value) -> Arc<Node> {
    object["metadata"]["name"] = json!(name);
    Arc::new(serde_json::from_value(object).unwrap())
}

pub(crate) fn node(name: &str, object: Value) -> NodeInfo {
    node_with_pods(name, object, Vec::new())
}

pub(crate) fn labelled_node(name: &str, labels: Value) -> NodeInfo {
    node(name, labelled(labels))
}

pub(crate) fn node_with_pods(name: &str, object: Value, pods: Vec<PodInfo>) -> NodeInfo {
    let mut snapshot = snapshot([(name, object)], pods.into_iter().map(|pod| (pod, name)));
    snapshot.take_node(name)
}

pub(crate) fn snapshot<'a>(
    nodes: impl IntoIterator<Item = (&'a str, Value)>,
    pods: impl IntoIterator<Item = (PodInfo, &'a str)>,
) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (name, object) in nodes {
        snapshot.set_node(name, node_object(name, object));
    }
    for (pod, node) in pods {
        snapshot.set_pod(Arc::new(pod), node);
    }
    snapshot
}

/// Checks the reasons (none: it passes) of a plugin that looks at one node alone.
pub(crate) fn check_filter(plugin: &dyn FilterPlugin, pod: &PodInfo, node: &NodeInfo, expected: &[&str]) {
    assert_eq!(reasons(plugin, pod, &Snapshot::default(), node), expected, "{} on {}", pod.key, node.name);
}

/// Checks the reasons for several nodes of a cluster.
pub(crate) fn check_filter_in(
    plugin: &dyn FilterPlugin,
    pod: &PodInfo,
    snapshot: &Snapshot,
    expected: &[(&str, &[&str])],
) {
    for (name, expected) in expected {
        let node = snapshot.node(name).unwrap();
        assert_eq!(&reasons(plugin, pod, snapshot, node), expected, "{} on {name}", pod.key);
    }
}

fn reasons(plugin: &dyn FilterPlugin, pod: &PodInfo, snapshot: &Snapshot, node: &NodeInfo) -> Vec<String> {
    let result = match plugin.prepare(pod, snapshot) {
        PreFilter::Skip => Ok(()),
        PreFilter::Test(filter) | PreFilter::Narrow { filter, .. } => filter.filter(node),
    };
    result.err().into_iter().flatten().map(Into::into).collect()
}

/// Checks the normalized scores of nodes, in their order.
pub(crate) fn check_scores(plugin: &dyn ScorePlugin, pod: &PodInfo, nodes: Vec<NodeInfo>, expected: &[i64]) {
    assert_eq!(scores(plugin, pod, nodes).unwrap(), expected);
}

/// Checks the normalized scores of a cluster's nodes, all of them feasible.
pub(crate) fn check_scores_in(
    plugin: &dyn ScorePlugin,
    pod: &PodInfo,
    snapshot: &Snapshot,
    expected: &[(&str, i64)],
) {
    let nodes: Vec<&NodeInfo> = snapshot.nodes().iter().collect();
    let scores = scores_of(plugin, pod, snapshot, &nodes).unwrap();
    let named: Vec<(&str, i64)> = nodes.iter().map(|node| &*node.name).zip(scores).collect();
    assert_eq!(named, expected);
}

pub(crate) fn scores(plugin: &dyn ScorePlugin, pod: &PodInfo, nodes: Vec<NodeInfo>) -> Option<Vec<i64>> {
    let mut snapshot = Snapshot::default();
    for node in nodes {
        let name = node.name.to_string();
        let pods: Vec<_> = node.pods().cloned().collect();
        snapshot.set_node(&name, node.node);
        pods.into_iter().for_each(|pod| snapshot.set_pod(pod, &name));
    }
    let nodes: Vec<&NodeInfo> = snapshot.nodes().iter().collect();
    scores_of(plugin, pod, &snapshot, &nodes)
}

fn scores_of(
    plugin: &dyn ScorePlugin,
    pod: &PodInfo,
    snapshot: &Snapshot,
    nodes: &[&NodeInfo],
) -> Option<Vec<i64>> {
    // The scorer borrows pod, snapshot and nodes for one lifetime.
    let scorer = plugin.prepare(pod, snapshot, nodes)?;
    let mut scores: Vec<i64> = nodes.iter().map(|node| scorer.score(node)).collect();
    scorer.normalize(nodes, &mut scores);
    Some(scores)
}
