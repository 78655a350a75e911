//! Whether a toleration covers a taint; shared by TaintToleration, NodeUnschedulable and PodTopologySpread.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use crate::scheduler::pod_info::PodInfo;
use crate::scheduler::snapshot::NodeInfo;

/// Effect of a taint that keeps new pods away.
pub const NO_SCHEDULE: &str = "NoSchedule";
/// Effect of a taint that also drives running pods away.
pub const NO_EXECUTE: &str = "NoExecute";
/// Effect of a taint that pods avoid where they can.
pub const PREFER_NO_SCHEDULE: &str = "PreferNoSchedule";

/// Returns the pod's tolerations.
pub fn tolerations(pod: &PodInfo) -> impl Iterator<Item = &Toleration> {
    pod.spec.tolerations.iter().flatten()
}

/// Returns the node's first taint that keeps the pod away.
pub fn first_untolerated<'n>(pod: &PodInfo, node: &'n NodeInfo) -> Option<&'n Taint> {
    node.taints()
        .filter(|taint| taint.effect == NO_SCHEDULE || taint.effect == NO_EXECUTE)
        .find(|taint| !tolerations(pod).any(|toleration| tolerates(toleration, taint)))
}

/// Returns true when `toleration` covers `taint`. Empty effect and key cover all; unknown operators cover nothing.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or("");
    let key = toleration.key.as_deref().unwrap_or("");
    if !(effect.is_empty() || effect == taint.effect) || !(key.is_empty() || key == taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("") {
        "Exists" => true,
        "" | "Equal" => toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or(""),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(toleration: Value, expected: bool) {
        let taint = Taint {
            key: "k".to_owned(),
            value: Some("v".to_owned()),
            effect: NO_SCHEDULE.to_owned(),
            time_added: None,
        };
        let parsed: Toleration = serde_json::from_value(toleration.clone()).unwrap();
        assert_eq!(tolerates(&parsed, &taint), expected, "{toleration}");
    }

    #[test]
    fn tolerations_cover_key_value_and_effect() {
        check(json!({ "operator": "Exists" }), true);
        check(json!({ "key": "k", "operator": "Exists" }), true);
        check(json!({ "key": "k", "operator": "Exists", "effect": "NoSchedule" }), true);
        check(json!({ "key": "k", "value": "v" }), true);
        check(json!({ "key": "k", "operator": "Equal", "value": "v" }), true);
        check(json!({ "key": "k", "operator": "Equal", "value": "w" }), false);
        check(json!({ "key": "k" }), false);
        check(json!({ "key": "other", "operator": "Exists" }), false);
        check(json!({ "key": "k", "operator": "Exists", "effect": "NoExecute" }), false);
        check(json!({ "key": "k", "operator": "Gt", "value": "v" }), false);
    }
}
