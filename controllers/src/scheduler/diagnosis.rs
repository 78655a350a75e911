//! Why no node does for a pod: every node's reasons, and the one sentence that people read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::framework::{PluginName, Reason};

/// What ruled out the nodes of a cycle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// All nodes of the cluster.
    pub node_count: usize,
    /// The nodes that were ruled out one by one.
    pub rejections: Vec<Rejection>,
    /// Nodes that were never tested because a plugin narrowed the search to others.
    pub narrowed_out: usize,
    /// The plugins that narrowed the search.
    pub narrowed_by: BTreeSet<PluginName>,
}

/// Why one node does not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The node.
    pub node: Arc<str>,
    /// The first plugin that rejected it.
    pub plugin: PluginName,
    /// All reasons of that plugin.
    pub reasons: Vec<Reason>,
}

impl Diagnosis {
    /// Returns the plugins that ruled out nodes; an event that one of them waits for makes another try worth it.
    pub fn plugins(&self) -> BTreeSet<PluginName> {
        self.rejections
            .iter()
            .map(|rejection| rejection.plugin)
            .chain(self.narrowed_by.iter().copied())
            .collect()
    }

    /// Returns upstream's message: how many nodes have which reason, in the order of the text.
    pub fn message(&self) -> String {
        if self.node_count == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for reason in self.rejections.iter().flat_map(|rejection| &rejection.reasons) {
            *counts.entry(reason).or_default() += 1;
        }
        let narrowed_by: Vec<PluginName> = self.narrowed_by.iter().copied().collect();
        let narrowed = format!("node(s) didn't satisfy plugin(s) [{}]", narrowed_by.join(" "));
        if self.narrowed_out > 0 {
            counts.insert(&narrowed, self.narrowed_out);
        }
        let mut parts: Vec<String> =
            counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        parts.sort();
        format!("0/{} nodes are available: {}.", self.node_count, parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection(node: &str, plugin: PluginName, reasons: &[&'static str]) -> Rejection {
        Rejection {
            node: node.into(),
            plugin,
            reasons: reasons.iter().map(|reason| Reason::from(*reason)).collect(),
        }
    }

    #[test]
    fn the_message_counts_reasons_over_nodes() {
        let taint = "node(s) had untolerated taint {key: value}";
        let diagnosis = Diagnosis {
            node_count: 3,
            rejections: vec![
                rejection("n1", "TaintToleration", &[taint]),
                rejection("n2", "NodeResourcesFit", &["Insufficient cpu"]),
                rejection("n3", "TaintToleration", &[taint]),
            ],
            ..Diagnosis::default()
        };
        let expected =
            "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {key: value}.";
        assert_eq!(diagnosis.message(), expected);
        assert_eq!(diagnosis.plugins(), BTreeSet::from(["NodeResourcesFit", "TaintToleration"]));
    }

    #[test]
    fn nodes_outside_a_narrowed_search_are_named_with_the_plugin() {
        let diagnosis = Diagnosis {
            node_count: 3,
            rejections: vec![rejection("n1", "NodeResourcesFit", &["Too many pods"])],
            narrowed_out: 2,
            narrowed_by: BTreeSet::from(["NodeAffinity"]),
        };
        let expected =
            "0/3 nodes are available: 1 Too many pods, 2 node(s) didn't satisfy plugin(s) [NodeAffinity].";
        assert_eq!(diagnosis.message(), expected);
    }

    #[test]
    fn an_empty_cluster_has_its_own_message() {
        assert_eq!(Diagnosis::default().message(), "no nodes available to schedule pods");
    }
}
