//! TaintToleration: taints keep pods away that do not tolerate them, and repel softly with PreferNoSchedule.

use k8s_openapi::api::core::v1::Toleration;

use super::taints;
use crate::scheduler::framework::{
    ClusterEvent, FilterPlugin, NodeFilter, NodeScorer, PluginName, PreFilter, Reason, ScorePlugin,
    normalize_lowest_best,
};
use crate::scheduler::pod_info::PodInfo;
use crate::scheduler::snapshot::{NodeInfo, Snapshot};

const NAME: PluginName = "TaintToleration";

/// The plugin.
pub struct TaintToleration;

struct HardTaints<'a>(&'a PodInfo);

struct SoftTaints<'a> {
    tolerations: Vec<&'a Toleration>,
}

impl FilterPlugin for TaintToleration {
    fn name(&self) -> PluginName {
        NAME
    }

    fn wakes_on(&self) -> &'static [ClusterEvent] {
        &[ClusterEvent::NodeAdded, ClusterEvent::NodeTaintsChanged]
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _snapshot: &'a Snapshot) -> PreFilter<'a> {
        PreFilter::Test(Box::new(HardTaints(pod)))
    }
}

impl NodeFilter for HardTaints<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Vec<Reason>> {
        let Some(taint) = taints::first_untolerated(self.0, node) else { return Ok(()) };
        let value = taint.value.as_deref().unwrap_or("");
        Err(vec![format!("node(s) had untolerated taint {{{}: {value}}}", taint.key).into()])
    }
}

impl ScorePlugin for TaintToleration {
    fn name(&self) -> PluginName {
        NAME
    }

    fn prepare<'a>(
        &self,
        pod: &'a PodInfo,
        _snapshot: &'a Snapshot,
        _feasible: &[&'a NodeInfo],
    ) -> Option<Box<dyn NodeScorer + 'a>> {
        let covers_soft_taints = |toleration: &&Toleration| {
            let effect = toleration.effect.as_deref().unwrap_or("");
            effect.is_empty() || effect == taints::PREFER_NO_SCHEDULE
        };
        Some(Box::new(SoftTaints {
            tolerations: taints::tolerations(pod).filter(covers_soft_taints).collect(),
        }))
    }
}

impl NodeScorer for SoftTaints<'_> {
    /// Counts the soft taints that the pod does not tolerate.
    fn score(&self, node: &NodeInfo) -> i64 {
        let repelling = node
            .taints()
            .filter(|taint| taint.effect == taints::PREFER_NO_SCHEDULE)
            .filter(|taint| !self.tolerations.iter().any(|toleration| taints::tolerates(toleration, taint)));
        i64::try_from(repelling.count()).unwrap_or(i64::MAX)
    }

    fn normalize(&self, _nodes: &[&NodeInfo], scores: &mut [i64]) {
        normalize_lowest_best(scores);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::scheduler::fixtures::{check_filter, check_scores, node, pod};

    fn tainted(name: &str, taints: Value) -> NodeInfo {
        node(name, json!({ "spec": { "taints": taints } }))
    }

    #[test]
    fn hard_taints_rule_out_with_the_first_one_named() {
        let plain = pod("a", json!({}));
        let both = json!([{ "key": "k", "value": "v", "effect": "NoSchedule" }, { "key": "l", "effect": "NoExecute" }]);
        let first = "node(s) had untolerated taint {k: v}";
        let second = "node(s) had untolerated taint {l: }";
        check_filter(&TaintToleration, &plain, &tainted("n", both.clone()), &[first]);
        let tolerant = pod("a", json!({ "tolerations": [{ "key": "k", "value": "v" }] }));
        check_filter(&TaintToleration, &tolerant, &tainted("n", both), &[second]);
        let soft = json!([{ "key": "k", "effect": "PreferNoSchedule" }]);
        check_filter(&TaintToleration, &plain, &tainted("n", soft), &[]);
    }

    #[test]
    fn soft_taints_lower_the_score_unless_tolerated() {
        let one = json!([{ "key": "k", "effect": "PreferNoSchedule" }]);
        let two = json!([{ "key": "k", "effect": "PreferNoSchedule" }, { "key": "l", "effect": "PreferNoSchedule" }]);
        let nodes = || vec![tainted("n0", json!([])), tainted("n1", one.clone()), tainted("n2", two.clone())];
        check_scores(&TaintToleration, &pod("a", json!({})), nodes(), &[100, 50, 0]);
        let tolerant =
            pod("a", json!({ "tolerations": [{ "operator": "Exists", "effect": "PreferNoSchedule" }] }));
        check_scores(&TaintToleration, &tolerant, nodes(), &[100, 100, 100]);
        let other = pod("a", json!({ "tolerations": [{ "operator": "Exists", "effect": "NoSchedule" }] }));
        check_scores(&TaintToleration, &other, nodes(), &[100, 50, 0]);
    }
}
