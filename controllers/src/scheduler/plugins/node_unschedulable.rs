//! NodeUnschedulable: cordoned nodes take only pods that tolerate the mark.

use k8s_openapi::api::core::v1::Taint;

use super::taints;
use crate::scheduler::framework::{ClusterEvent, FilterPlugin, NodeFilter, PluginName, PreFilter, Reason};
use crate::scheduler::pod_info::PodInfo;
use crate::scheduler::snapshot::{NodeInfo, Snapshot};

const REASON: &str = "node(s) were unschedulable";
/// A toleration of this taint covers the mark as well.
const TAINT_KEY: &str = "node.kubernetes.io/unschedulable";

/// The plugin.
pub struct NodeUnschedulable;

struct Cordon;

impl FilterPlugin for NodeUnschedulable {
    fn name(&self) -> PluginName {
        "NodeUnschedulable"
    }

    fn wakes_on(&self) -> &'static [ClusterEvent] {
        &[ClusterEvent::NodeAdded, ClusterEvent::NodeTaintsChanged]
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _snapshot: &'a Snapshot) -> PreFilter<'a> {
        let mark = Taint {
            key: TAINT_KEY.to_owned(),
            effect: taints::NO_SCHEDULE.to_owned(),
            value: None,
            time_added: None,
        };
        if taints::tolerations(pod).any(|toleration| taints::tolerates(toleration, &mark)) {
            return PreFilter::Skip;
        }
        PreFilter::Test(Box::new(Cordon))
    }
}

impl NodeFilter for Cordon {
    fn filter(&self, node: &NodeInfo) -> Result<(), Vec<Reason>> {
        let is_cordoned = node.node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true));
        if is_cordoned { Err(vec![REASON.into()]) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scheduler::fixtures::{check_filter, node, pod};

    #[test]
    fn a_cordoned_node_takes_only_tolerant_pods() {
        let cordoned = node("n1", json!({ "spec": { "unschedulable": true } }));
        let tolerant = pod("a", json!({ "tolerations": [{ "key": TAINT_KEY, "operator": "Exists" }] }));
        check_filter(&NodeUnschedulable, &pod("a", json!({})), &cordoned, &[REASON]);
        check_filter(&NodeUnschedulable, &tolerant, &cordoned, &[]);
        check_filter(&NodeUnschedulable, &pod("a", json!({})), &node("n1", json!({})), &[]);
    }
}
