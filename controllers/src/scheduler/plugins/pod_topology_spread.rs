//! PodTopologySpread: spreads the pods that a constraint counts evenly over the domains of a node label.
//!
//! `DoNotSchedule` constraints filter, `ScheduleAnyway` constraints score. A pod without constraints is spread by the cluster's
//! default (nodes and zones, soft). Upstream derives the default's selector from the pod's services and its controller; here
//! it is the pods of the same controller, which is the same set for pods that a controller made; a bare pod behind a
//! service is not spread by default.

use std::collections::HashMap;

use super::spread_constraint::{Constraint, HOSTNAME_LABEL, WhenUnsatisfiable};
use crate::scheduler::framework::{
    ClusterEvent, FilterPlugin, MAX_NODE_SCORE, NodeFilter, NodeScorer, PluginName, PreFilter, Reason,
    ScorePlugin, ratio_part, whole_part,
};
use crate::scheduler::pod_info::PodInfo;
use crate::scheduler::snapshot::{NodeInfo, Snapshot};

const NAME: PluginName = "PodTopologySpread";
const REASON: &str = "node(s) didn't match pod topology spread constraints";
const REASON_NO_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";

/// The plugin.
pub struct PodTopologySpread;

/// The hard constraints with the pods in their domains.
struct Hard<'a>(Vec<CountedConstraint<'a>>);

/// The soft constraints with the pods in their domains.
struct Soft<'a> {
    constraints: Vec<CountedConstraint<'a>>,
    /// How much one pod counts, per constraint: more for labels with many domains.
    weights: Vec<f64>,
    needs_all_labels: bool,
}

struct CountedConstraint<'a> {
    constraint: Constraint<'a>,
    pods_by_domain: HashMap<&'a str, i64>,
}

impl FilterPlugin for PodTopologySpread {
    fn name(&self) -> PluginName {
        NAME
    }

    fn wakes_on(&self) -> &'static [ClusterEvent] {
        &[
            ClusterEvent::NodeAdded,
            ClusterEvent::NodeDeleted,
            ClusterEvent::NodeLabelsChanged,
            ClusterEvent::NodeTaintsChanged,
            ClusterEvent::AssignedPodAdded,
            ClusterEvent::AssignedPodUpdated,
            ClusterEvent::AssignedPodDeleted,
        ]
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> PreFilter<'a> {
        let constraints = Constraint::of_pod(pod, WhenUnsatisfiable::DoNotSchedule);
        if constraints.is_empty() {
            return PreFilter::Skip;
        }
        let mut counted = uncounted(constraints);
        for node in snapshot.nodes() {
            if has_all_labels(&counted, node) {
                counted.iter_mut().for_each(|constraint| constraint.count_hard(node));
            }
        }
        PreFilter::Test(Box::new(Hard(counted)))
    }
}

impl<'a> CountedConstraint<'a> {
    /// A domain exists as soon as one of its nodes counts, with or without pods.
    fn count_hard(&mut self, node: &'a NodeInfo) {
        if let Some(domain) = self.constraint.domain(node).filter(|_| self.constraint.counts_node(node)) {
            *self.pods_by_domain.entry(domain).or_default() += self.constraint.count(node);
        }
    }

    fn fewest_pods(&self) -> i64 {
        if self.pods_by_domain.len() < self.constraint.min_domains {
            return 0;
        }
        self.pods_by_domain.values().copied().min().unwrap_or(i64::MAX)
    }
}

impl NodeFilter for Hard<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Vec<Reason>> {
        for counted in &self.0 {
            let constraint = &counted.constraint;
            let Some(domain) = constraint.domain(node) else { return Err(vec![REASON_NO_LABEL.into()]) };
            let present = counted.pods_by_domain.get(domain).copied().unwrap_or(0);
            let with_pod = present + i64::from(constraint.counts_itself());
            if with_pod.saturating_sub(counted.fewest_pods()) > constraint.max_skew {
                return Err(vec![REASON.into()]);
            }
        }
        Ok(())
    }
}

impl ScorePlugin for PodTopologySpread {
    fn name(&self) -> PluginName {
        NAME
    }

    fn prepare<'a>(
        &self,
        pod: &'a PodInfo,
        snapshot: &'a Snapshot,
        feasible: &[&'a NodeInfo],
    ) -> Option<Box<dyn NodeScorer + 'a>> {
        let has_own = pod.spec.topology_spread_constraints.as_ref().is_some_and(|list| !list.is_empty());
        let constraints = if has_own {
            Constraint::of_pod(pod, WhenUnsatisfiable::ScheduleAnyway)
        } else {
            Constraint::defaults(pod)
        };
        if constraints.is_empty() {
            return None;
        }
        let mut soft =
            Soft { constraints: uncounted(constraints), weights: Vec::new(), needs_all_labels: has_own };
        soft.open_domains(feasible);
        soft.count_pods(snapshot);
        Some(Box::new(soft))
    }
}

impl<'a> Soft<'a> {
    /// Only domains with a feasible node matter; their number sets the weight of a pod.
    fn open_domains(&mut self, feasible: &[&'a NodeInfo]) {
        let needs_all_labels = self.needs_all_labels;
        let ranked: Vec<&'a NodeInfo> = feasible
            .iter()
            .copied()
            .filter(|node| !needs_all_labels || has_all_labels(&self.constraints, node))
            .collect();
        for counted in &mut self.constraints {
            let domains = if counted.constraint.topology_key == HOSTNAME_LABEL {
                ranked.len()
            } else {
                // Without the label a node is in the nameless domain, which counts as one but never scores.
                let names = ranked.iter().map(|node| counted.constraint.domain(node).unwrap_or(""));
                counted.pods_by_domain.extend(names.map(|name| (name, 0)));
                counted.pods_by_domain.len()
            };
            let domains = i64::try_from(domains).unwrap_or(i64::MAX);
            self.weights.push((ratio_part(domains) + 2.0).ln());
        }
    }

    fn count_pods(&mut self, snapshot: &'a Snapshot) {
        if self.constraints.iter().all(|counted| counted.pods_by_domain.is_empty()) {
            return;
        }
        for node in snapshot.nodes() {
            if self.needs_all_labels && !has_all_labels(&self.constraints, node) {
                continue;
            }
            for counted in &mut self.constraints {
                let domain = counted.constraint.domain(node).unwrap_or("");
                if let Some(pods) = counted.pods_by_domain.get_mut(domain)
                    && counted.constraint.counts_node(node)
                {
                    *pods += counted.constraint.count(node);
                }
            }
        }
    }

    fn ignores(&self, node: &NodeInfo) -> bool {
        self.needs_all_labels && !has_all_labels(&self.constraints, node)
    }
}

impl NodeScorer for Soft<'_> {
    /// Adds up the pods that are already in the node's domains; single nodes are counted here, as they are needed.
    fn score(&self, node: &NodeInfo) -> i64 {
        if self.ignores(node) {
            return 0;
        }
        let mut sum = 0.0;
        for (counted, weight) in self.constraints.iter().zip(&self.weights) {
            let constraint = &counted.constraint;
            let Some(domain) = constraint.domain(node) else { continue };
            let pods = if constraint.topology_key == HOSTNAME_LABEL {
                constraint.count(node)
            } else {
                counted.pods_by_domain.get(domain).copied().unwrap_or(0)
            };
            sum += ratio_part(pods) * weight + ratio_part(constraint.max_skew - 1);
        }
        whole_part(f64::round(sum))
    }

    /// The emptier its domains, the better a node; nodes without the labels come last.
    fn normalize(&self, nodes: &[&NodeInfo], scores: &mut [i64]) {
        let ranked = || {
            nodes.iter().zip(scores.iter()).filter(|(node, _)| !self.ignores(node)).map(|(_, score)| *score)
        };
        let lowest = ranked().min().unwrap_or(0);
        let highest = ranked().max().unwrap_or(0);
        for (node, score) in nodes.iter().zip(scores.iter_mut()) {
            *score = match (self.ignores(node), highest) {
                (true, _) => 0,
                (false, 0) => MAX_NODE_SCORE,
                (false, highest) => MAX_NODE_SCORE * (highest + lowest - *score) / highest,
            };
        }
    }
}

fn uncounted(constraints: Vec<Constraint<'_>>) -> Vec<CountedConstraint<'_>> {
    let fresh = |constraint| CountedConstraint { constraint, pods_by_domain: HashMap::new() };
    constraints.into_iter().map(fresh).collect()
}

fn has_all_labels(constraints: &[CountedConstraint<'_>], node: &NodeInfo) -> bool {
    constraints.iter().all(|counted| counted.constraint.domain(node).is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::scheduler::fixtures::{
        check_filter_in, check_scores_in, labelled, owned_pod, pod_from, snapshot,
    };

    fn app_pod(name: &str, constraints: Value) -> PodInfo {
        pod_from(json!({
            "metadata": { "name": name, "labels": { "app": "web" } },
            "spec": { "topologySpreadConstraints": constraints },
        }))
    }

    fn zoned(when: &str, max_skew: i32) -> Value {
        json!([{
            "topologyKey": "zone", "maxSkew": max_skew, "whenUnsatisfiable": when,
            "labelSelector": { "matchLabels": { "app": "web" } },
        }])
    }

    /// Zone a has two nodes with two and one pods of the application, zone b one node with one.
    fn two_zones() -> Snapshot {
        let nodes = [
            ("a1", json!({ "zone": "a" })),
            ("a2", json!({ "zone": "a" })),
            ("b1", json!({ "zone": "b" })),
            ("c1", json!({})),
        ];
        let nodes = nodes.map(|(name, labels)| (name, labelled(labels)));
        let pods = [("p1", "a1"), ("p2", "a1"), ("p3", "a2"), ("p4", "b1")];
        snapshot(nodes, pods.map(|(name, node)| (app_pod(name, json!([])), node)))
    }

    #[test]
    fn hard_constraints_keep_the_skew() {
        let strict = app_pod("new", zoned("DoNotSchedule", 2));
        let expected: &[(&str, &[&str])] = &[("a1", &[REASON]), ("b1", &[]), ("c1", &[REASON_NO_LABEL])];
        check_filter_in(&PodTopologySpread, &strict, &two_zones(), expected);
        let loose = app_pod("new", zoned("DoNotSchedule", 3));
        check_filter_in(&PodTopologySpread, &loose, &two_zones(), &[("a1", &[]), ("b1", &[])]);
    }

    #[test]
    fn too_few_domains_count_as_an_empty_one() {
        let mut constraints = zoned("DoNotSchedule", 1);
        constraints[0]["minDomains"] = json!(3);
        let wants = app_pod("new", constraints);
        check_filter_in(&PodTopologySpread, &wants, &two_zones(), &[("a1", &[REASON]), ("b1", &[REASON])]);
    }

    #[test]
    fn nodes_that_affinity_excludes_are_no_domains_unless_told_so() {
        let mut constraints = zoned("DoNotSchedule", 1);
        let spec = |constraints: &Value| {
            pod_from(json!({
                "metadata": { "name": "new", "labels": { "app": "web" } },
                "spec": { "topologySpreadConstraints": constraints, "nodeSelector": { "zone": "a" } },
            }))
        };
        check_filter_in(&PodTopologySpread, &spec(&constraints), &two_zones(), &[("a1", &[])]);
        constraints[0]["nodeAffinityPolicy"] = json!("Ignore");
        check_filter_in(&PodTopologySpread, &spec(&constraints), &two_zones(), &[("a1", &[REASON])]);
    }

    #[test]
    fn soft_constraints_prefer_the_emptier_domain() {
        let wants = app_pod("new", zoned("ScheduleAnyway", 1));
        // Zone a counts 3 ln 4 = 4.2, zone b ln 4 = 1.4: rounded 4 and 1, so 100 (4 + 1 - 4) / 4 and 100.
        check_scores_in(
            &PodTopologySpread,
            &wants,
            &two_zones(),
            &[("a1", 25), ("a2", 25), ("b1", 100), ("c1", 0)],
        );
    }

    #[test]
    fn by_default_pods_of_one_controller_spread_over_nodes() {
        let host = |name: &str| labelled(json!({ HOSTNAME_LABEL: name }));
        let nodes = [("n1", host("n1")), ("n2", host("n2"))];
        let pods =
            [(owned_pod("p1", "rs"), "n1"), (owned_pod("p2", "rs"), "n1"), (owned_pod("p3", "other"), "n2")];
        let cluster = snapshot(nodes, pods);
        // Two pods of weight ln 4 and the skew term 2 make 4.77, none makes 2: 5 and 2.
        check_scores_in(&PodTopologySpread, &owned_pod("new", "rs"), &cluster, &[("n1", 40), ("n2", 100)]);
    }
}
