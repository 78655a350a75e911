//! NodeResourcesFit: a node must have room for what the pod asks for; emptier nodes score higher (LeastAllocated).

use crate::scheduler::framework::{
    ClusterEvent, FilterPlugin, MAX_NODE_SCORE, NodeFilter, NodeScorer, PluginName, PreFilter, Reason,
    ScorePlugin,
};
use crate::scheduler::pod_info::PodInfo;
use crate::scheduler::snapshot::{NodeInfo, Snapshot};

const NAME: PluginName = "NodeResourcesFit";

/// The plugin.
pub struct NodeResourcesFit;

struct Fits<'a>(&'a PodInfo);

struct LeastAllocated<'a>(&'a PodInfo);

impl FilterPlugin for NodeResourcesFit {
    fn name(&self) -> PluginName {
        NAME
    }

    fn wakes_on(&self) -> &'static [ClusterEvent] {
        &[
            ClusterEvent::NodeAdded,
            ClusterEvent::NodeAllocatableChanged,
            ClusterEvent::AssignedPodUpdated,
            ClusterEvent::AssignedPodDeleted,
        ]
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _snapshot: &'a Snapshot) -> PreFilter<'a> {
        PreFilter::Test(Box::new(Fits(pod)))
    }
}

impl NodeFilter for Fits<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Vec<Reason>> {
        let reasons = shortages(self.0, node);
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }
}

/// A resource that the pod does not ask for is never short, even on a node that is overcommitted.
fn shortages(pod: &PodInfo, node: &NodeInfo) -> Vec<Reason> {
    let (wanted, has, used) = (&pod.requests, &node.allocatable, &node.requested);
    let is_short = |wanted: i64, has: i64, used: i64| wanted > 0 && wanted > has.saturating_sub(used);
    let mut reasons: Vec<Reason> = Vec::new();
    if node.pod_count() >= node.allocatable_pods {
        reasons.push("Too many pods".into());
    }
    if is_short(wanted.milli_cpu, has.milli_cpu, used.milli_cpu) {
        reasons.push("Insufficient cpu".into());
    }
    if is_short(wanted.memory, has.memory, used.memory) {
        reasons.push("Insufficient memory".into());
    }
    if is_short(wanted.ephemeral_storage, has.ephemeral_storage, used.ephemeral_storage) {
        reasons.push("Insufficient ephemeral-storage".into());
    }
    for (name, wanted) in &wanted.scalars {
        let has = has.scalars.get(name).copied().unwrap_or(0);
        let used = used.scalars.get(name).copied().unwrap_or(0);
        if is_short(*wanted, has, used) {
            reasons.push(format!("Insufficient {name}").into());
        }
    }
    reasons
}

impl ScorePlugin for NodeResourcesFit {
    fn name(&self) -> PluginName {
        NAME
    }

    fn prepare<'a>(
        &self,
        pod: &'a PodInfo,
        _snapshot: &'a Snapshot,
        _feasible: &[&'a NodeInfo],
    ) -> Option<Box<dyn NodeScorer + 'a>> {
        Some(Box::new(LeastAllocated(pod)))
    }
}

impl NodeScorer for LeastAllocated<'_> {
    /// Averages the free shares of CPU and memory after placement; a resource that the node has none of does not count.
    fn score(&self, node: &NodeInfo) -> i64 {
        let (wanted, used) = (self.0.scored_request, node.scored_requested);
        let shares = [
            free_share(node.allocatable.milli_cpu, used.milli_cpu.saturating_add(wanted.milli_cpu)),
            free_share(node.allocatable.memory, used.memory.saturating_add(wanted.memory)),
        ];
        let (sum, weight) =
            shares.into_iter().flatten().fold((0, 0), |(sum, weight), share| (sum + share, weight + 1));
        if weight == 0 { 0 } else { sum / weight }
    }
}

fn free_share(has: i64, used: i64) -> Option<i64> {
    if has == 0 {
        return None;
    }
    let free = has.saturating_sub(used);
    Some(if free < 0 { 0 } else { free.saturating_mul(MAX_NODE_SCORE) / has })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::scheduler::fixtures::{check_filter, check_scores, node, node_with_pods, pod, requesting};

    fn offering(allocatable: Value) -> Value {
        json!({ "status": { "allocatable": allocatable } })
    }

    #[test]
    fn every_short_resource_is_named() {
        let small = node("n", offering(json!({ "cpu": "1", "memory": "1Gi", "pods": "110" })));
        check_filter(
            &NodeResourcesFit,
            &requesting("a", json!({ "cpu": "1", "memory": "1Gi" })),
            &small,
            &[],
        );
        let greedy = requesting(
            "a",
            json!({ "cpu": "1001m", "memory": "2Gi", "ephemeral-storage": "1", "example.com/gpu": "1" }),
        );
        let expected = [
            "Insufficient cpu",
            "Insufficient memory",
            "Insufficient ephemeral-storage",
            "Insufficient example.com/gpu",
        ];
        check_filter(&NodeResourcesFit, &greedy, &small, &expected);
        let full = node_with_pods("n", offering(json!({ "pods": "1" })), vec![pod("first", json!({}))]);
        check_filter(&NodeResourcesFit, &pod("a", json!({})), &full, &["Too many pods"]);
    }

    #[test]
    fn pods_of_the_node_count() {
        let offer = offering(json!({ "cpu": "1", "memory": "1Gi", "pods": "110" }));
        let node = node_with_pods("n", offer, vec![requesting("first", json!({ "cpu": "600m" }))]);
        check_filter(&NodeResourcesFit, &requesting("a", json!({ "cpu": "400m" })), &node, &[]);
        check_filter(
            &NodeResourcesFit,
            &requesting("a", json!({ "cpu": "401m" })),
            &node,
            &["Insufficient cpu"],
        );
        check_filter(&NodeResourcesFit, &requesting("a", json!({ "memory": "1Gi" })), &node, &[]);
    }

    #[test]
    fn emptier_nodes_score_higher() {
        let offer = || offering(json!({ "cpu": "4", "memory": "10000", "pods": "110" }));
        let nodes = vec![
            node("empty", offer()),
            node_with_pods("busy", offer(), vec![requesting("p", json!({ "cpu": "2", "memory": "5000" }))]),
            node("bare", json!({})),
        ];
        // (75 + 50) / 2 and (25 + 0) / 2, both rounded down.
        check_scores(
            &NodeResourcesFit,
            &requesting("a", json!({ "cpu": "1", "memory": "5000" })),
            nodes,
            &[62, 12, 0],
        );
    }
}
