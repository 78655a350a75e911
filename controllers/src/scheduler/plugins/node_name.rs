//! NodeName: a pod that names its node fits no other.

use crate::scheduler::framework::{ClusterEvent, FilterPlugin, NodeFilter, PluginName, PreFilter, Reason};
use crate::scheduler::pod_info::PodInfo;
use crate::scheduler::snapshot::{NodeInfo, Snapshot};

const REASON: &str = "node(s) didn't match the requested node name";

/// The plugin.
pub struct NodeName;

struct Wanted<'a>(&'a str);

impl FilterPlugin for NodeName {
    fn name(&self) -> PluginName {
        "NodeName"
    }

    fn wakes_on(&self) -> &'static [ClusterEvent] {
        &[ClusterEvent::NodeAdded]
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, _snapshot: &'a Snapshot) -> PreFilter<'a> {
        pod.node_name().map_or(PreFilter::Skip, |name| PreFilter::Test(Box::new(Wanted(name))))
    }
}

impl NodeFilter for Wanted<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Vec<Reason>> {
        if &*node.name == self.0 { Ok(()) } else { Err(vec![REASON.into()]) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scheduler::fixtures::{check_filter, node, pod};

    #[test]
    fn only_the_named_node_passes() {
        let named = pod("a", json!({ "nodeName": "n1" }));
        check_filter(&NodeName, &named, &node("n1", json!({})), &[]);
        check_filter(&NodeName, &named, &node("n2", json!({})), &[REASON]);
        check_filter(&NodeName, &pod("a", json!({})), &node("n2", json!({})), &[]);
    }
}
