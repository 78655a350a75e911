//! NodeResourcesBalancedAllocation: prefers nodes whose CPU and memory would be used to the same degree.
//!
//! A pod that asks for neither changes no balance and is not scored.

use crate::scheduler::framework::{
    MAX_NODE_SCORE, NodeScorer, PluginName, ScorePlugin, ratio_part, whole_part,
};
use crate::scheduler::pod_info::PodInfo;
use crate::scheduler::snapshot::{NodeInfo, Snapshot};

/// The plugin.
pub struct BalancedAllocation;

struct Balance<'a>(&'a PodInfo);

impl ScorePlugin for BalancedAllocation {
    fn name(&self) -> PluginName {
        "NodeResourcesBalancedAllocation"
    }

    fn prepare<'a>(
        &self,
        pod: &'a PodInfo,
        _snapshot: &'a Snapshot,
        _feasible: &[&'a NodeInfo],
    ) -> Option<Box<dyn NodeScorer + 'a>> {
        if pod.requests.is_best_effort() { None } else { Some(Box::new(Balance(pod))) }
    }
}

impl NodeScorer for Balance<'_> {
    /// Takes the standard deviation of the used shares, which for two values is half their distance, off the best score.
    fn score(&self, node: &NodeInfo) -> i64 {
        let (wanted, has, used) = (&self.0.requests, &node.allocatable, &node.requested);
        let cpu = used_share(has.milli_cpu, used.milli_cpu.saturating_add(wanted.milli_cpu));
        let memory = used_share(has.memory, used.memory.saturating_add(wanted.memory));
        let deviation = match (cpu, memory) {
            (Some(cpu), Some(memory)) => ((cpu - memory) / 2.0).abs(),
            (None, _) | (_, None) => 0.0,
        };
        whole_part((1.0 - deviation) * ratio_part(MAX_NODE_SCORE))
    }
}

fn used_share(has: i64, used: i64) -> Option<f64> {
    if has == 0 { None } else { Some((ratio_part(used) / ratio_part(has)).min(1.0)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scheduler::fixtures::{check_scores, node, pod, requesting, scores};

    #[test]
    fn the_score_falls_with_the_distance_of_the_used_shares() {
        let offer = json!({ "status": { "allocatable": { "cpu": "4", "memory": "10000" } } });
        let wants = requesting("a", json!({ "cpu": "3", "memory": "5000" }));
        // 75 % of the CPU, 50 % of the memory: half the distance is 12.5 %.
        check_scores(&BalancedAllocation, &wants, vec![node("n", offer.clone())], &[87]);
        let even = requesting("a", json!({ "cpu": "2", "memory": "5000" }));
        check_scores(&BalancedAllocation, &even, vec![node("n", offer)], &[100]);
    }

    #[test]
    fn a_pod_without_requests_is_not_scored() {
        assert_eq!(scores(&BalancedAllocation, &pod("a", json!({})), vec![node("n", json!({}))]), None);
    }
}
