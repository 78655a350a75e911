//! NodeAffinity: the node labels that a pod requires (`nodeSelector`, required terms) and prefers (weighted terms).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{NodeAffinity as Rules, NodeSelectorTerm, PreferredSchedulingTerm};

use super::node_selector;
use crate::scheduler::framework::{
    ClusterEvent, FilterPlugin, NodeFilter, NodeScorer, PluginName, PreFilter, Reason, ScorePlugin,
    normalize_highest_best,
};
use crate::scheduler::pod_info::PodInfo;
use crate::scheduler::snapshot::{NodeInfo, Snapshot};

const NAME: PluginName = "NodeAffinity";
const REASON: &str = "node(s) didn't match Pod's node affinity/selector";

/// The plugin.
pub struct NodeAffinity;

/// Passes the nodes that a pod's `nodeSelector` and required terms allow.
pub struct Required<'a>(&'a PodInfo);

struct Preferred<'a>(Vec<&'a PreferredSchedulingTerm>);

impl FilterPlugin for NodeAffinity {
    fn name(&self) -> PluginName {
        NAME
    }

    fn wakes_on(&self) -> &'static [ClusterEvent] {
        &[ClusterEvent::NodeAdded, ClusterEvent::NodeLabelsChanged]
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _snapshot: &'a Snapshot) -> PreFilter<'a> {
        let required = Required(pod);
        if pod.spec.node_selector.is_none() && required.terms().is_none() {
            return PreFilter::Skip;
        }
        let filter = Box::new(Required(pod));
        match required.named_nodes() {
            Some(nodes) => PreFilter::Narrow { nodes, filter },
            None => PreFilter::Test(filter),
        }
    }
}

impl<'a> Required<'a> {
    /// Reads the requirements of a pod.
    pub fn new(pod: &'a PodInfo) -> Self {
        Self(pod)
    }

    /// Returns true when the pod may run on `node`. The terms are alternatives; the selector holds beside them.
    pub fn matches(&self, node: &NodeInfo) -> bool {
        let mut selector = self.0.spec.node_selector.iter().flatten();
        selector.all(|(key, value)| node.label(key) == Some(value))
            && self.terms().is_none_or(|terms| terms.iter().any(|term| node_selector::matches(term, node)))
    }

    fn terms(&self) -> Option<&'a [NodeSelectorTerm]> {
        let required = rules(self.0)?.required_during_scheduling_ignored_during_execution.as_ref()?;
        Some(&required.node_selector_terms)
    }

    /// Returns the only nodes that can match, when every term names its nodes (as daemon set pods do).
    fn named_nodes(&self) -> Option<BTreeSet<String>> {
        let mut nodes = BTreeSet::new();
        for term in self.terms()? {
            nodes.extend(node_selector::named_nodes(term)?);
        }
        Some(nodes)
    }
}

impl NodeFilter for Required<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Vec<Reason>> {
        if self.matches(node) { Ok(()) } else { Err(vec![REASON.into()]) }
    }
}

impl ScorePlugin for NodeAffinity {
    fn name(&self) -> PluginName {
        NAME
    }

    fn prepare<'a>(
        &self,
        pod: &'a PodInfo,
        _snapshot: &'a Snapshot,
        _feasible: &[&'a NodeInfo],
    ) -> Option<Box<dyn NodeScorer + 'a>> {
        let terms = rules(pod)?.preferred_during_scheduling_ignored_during_execution.as_ref()?;
        if terms.is_empty() { None } else { Some(Box::new(Preferred(terms.iter().collect()))) }
    }
}

impl NodeScorer for Preferred<'_> {
    /// Adds up the weights of the terms that match; a term without requirements matches nothing.
    fn score(&self, node: &NodeInfo) -> i64 {
        let matching = self.0.iter().filter(|term| node_selector::matches(&term.preference, node));
        matching.map(|term| i64::from(term.weight)).sum()
    }

    fn normalize(&self, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        normalize_highest_best(scores);
    }
}

fn rules(pod: &PodInfo) -> Option<&Rules> {
    pod.spec.affinity.as_ref()?.node_affinity.as_ref()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::scheduler::fixtures::{check_filter, check_scores, labelled_node, pod};

    fn required(terms: Value) -> PodInfo {
        let rules =
            json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } });
        pod("a", json!({ "affinity": { "nodeAffinity": rules } }))
    }

    #[test]
    fn the_selector_needs_every_label() {
        let wants = pod("a", json!({ "nodeSelector": { "disk": "ssd", "zone": "a" } }));
        check_filter(&NodeAffinity, &wants, &labelled_node("n", json!({ "disk": "ssd", "zone": "a" })), &[]);
        check_filter(&NodeAffinity, &wants, &labelled_node("n", json!({ "disk": "ssd" })), &[REASON]);
        check_filter(
            &NodeAffinity,
            &wants,
            &labelled_node("n", json!({ "disk": "hdd", "zone": "a" })),
            &[REASON],
        );
    }

    #[test]
    fn required_terms_are_alternatives() {
        let is = |value: &str| json!({ "matchExpressions": [{ "key": "zone", "operator": "In", "values": [value] }] });
        let wants = required(json!([is("a"), is("b")]));
        check_filter(&NodeAffinity, &wants, &labelled_node("n", json!({ "zone": "b" })), &[]);
        check_filter(&NodeAffinity, &wants, &labelled_node("n", json!({ "zone": "c" })), &[REASON]);
        check_filter(&NodeAffinity, &required(json!([])), &labelled_node("n", json!({})), &[REASON]);
        check_filter(&NodeAffinity, &required(json!([{}])), &labelled_node("n", json!({})), &[REASON]);
    }

    #[test]
    fn terms_that_name_nodes_narrow_the_search() {
        let field = |name: &str| json!({ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [name] }] });
        let both = required(json!([field("n1"), field("n2")]));
        let narrowed = Required(&both).named_nodes();
        assert_eq!(narrowed, Some(BTreeSet::from(["n1".to_owned(), "n2".to_owned()])));
        let open =
            required(json!([field("n1"), { "matchExpressions": [{ "key": "zone", "operator": "Exists" }] }]));
        assert_eq!(Required(&open).named_nodes(), None);
        check_filter(&NodeAffinity, &open, &labelled_node("n3", json!({ "zone": "" })), &[]);
    }

    #[test]
    fn preferred_weights_add_up_and_are_stretched() {
        let prefers = |weight: i32, key: &str| json!({ "weight": weight, "preference": { "matchExpressions": [{ "key": key, "operator": "Exists" }] } });
        let empty = json!({ "weight": 100, "preference": {} });
        let rules = json!({ "preferredDuringSchedulingIgnoredDuringExecution": [prefers(30, "x"), prefers(10, "y"), empty] });
        let wants = pod("a", json!({ "affinity": { "nodeAffinity": rules } }));
        let nodes = vec![
            labelled_node("n0", json!({})),
            labelled_node("n1", json!({ "y": "" })),
            labelled_node("n2", json!({ "x": "", "y": "" })),
        ];
        check_scores(&NodeAffinity, &wants, nodes, &[0, 25, 100]);
    }
}
