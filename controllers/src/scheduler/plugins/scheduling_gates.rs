//! SchedulingGates: a pod with gates waits outside the queue until all of them are removed.

use crate::scheduler::framework::{PluginName, PreEnqueuePlugin};
use crate::scheduler::pod_info::PodInfo;

/// The plugin.
pub struct SchedulingGates;

impl PreEnqueuePlugin for SchedulingGates {
    fn name(&self) -> PluginName {
        "SchedulingGates"
    }

    fn admits(&self, pod: &PodInfo) -> bool {
        pod.spec.scheduling_gates.as_ref().is_none_or(Vec::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scheduler::fixtures::pod;

    #[test]
    fn only_pods_without_gates_are_admitted() {
        assert!(SchedulingGates.admits(&pod("a", json!({}))));
        assert!(SchedulingGates.admits(&pod("a", json!({ "schedulingGates": [] }))));
        assert!(
            !SchedulingGates.admits(&pod("a", json!({ "schedulingGates": [{ "name": "example.com/g" }] })))
        );
    }
}
