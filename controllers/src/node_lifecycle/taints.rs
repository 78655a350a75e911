//! Which taints a node's conditions call for. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::ready_status;

pub(super) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(super) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions that keep new pods away while they are true.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// Returns all taints that the node should have: those of others as they are, ours as its state demands.
pub(super) fn wanted(node: &Node, now: Timestamp) -> Vec<Taint> {
    let spec = node.spec.clone().unwrap_or_default();
    let present = spec.taints.unwrap_or_default();
    let mut ours: Vec<(&str, &str)> = Vec::new();
    match ready_status(node) {
        Some("True") => {}
        Some("Unknown") => ours.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        Some(_) | None => ours.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
    }
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let holds = |name: &str| {
        conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == name && condition.status == "True")
    };
    ours.extend(PRESSURES.iter().filter(|(name, _)| holds(name)).map(|(_, key)| (*key, "NoSchedule")));
    if spec.unschedulable == Some(true) {
        ours.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let is_wanted =
        |taint: &Taint| ours.iter().any(|(key, effect)| taint.key == *key && taint.effect == *effect);
    let mut taints: Vec<Taint> =
        present.iter().filter(|taint| !is_managed(&taint.key) || is_wanted(taint)).cloned().collect();
    for (key, effect) in ours {
        if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
            let time_added = (effect == "NoExecute").then_some(Time(now));
            taints.push(Taint { key: key.to_owned(), effect: effect.to_owned(), value: None, time_added });
        }
    }
    taints
}

fn is_managed(key: &str) -> bool {
    [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&key)
        || PRESSURES.iter().any(|(_, managed)| key == *managed)
}
