//! Facts about pods that several controllers share. Pure.

use client::ApiObject;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

/// Returns the phase, empty when there is none yet.
#[must_use]
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Says whether a pod has ended for good.
#[must_use]
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Says whether a pod counts as a replica: neither ended nor on its way out.
#[must_use]
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Returns a condition of a pod.
#[must_use]
pub fn condition<'a>(pod: &'a Pod, condition_type: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == condition_type)
}

/// Says whether a pod is ready.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Returns since when a pod has been ready.
#[must_use]
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let condition = condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    condition.last_transition_time.as_ref().map(|time| time.0)
}

/// Returns the node of a pod, empty while it has none.
#[must_use]
pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

/// Returns the owner that manages an object.
#[must_use]
pub fn controller_of<K: ApiObject>(object: &K) -> Option<&OwnerReference> {
    let owners = object.metadata().owner_references.as_ref()?;
    owners.iter().find(|owner| owner.controller == Some(true))
}

/// Says whether the owner with this uid manages an object.
#[must_use]
pub fn is_controlled_by<K: ApiObject>(object: &K, uid: &str) -> bool {
    controller_of(object).is_some_and(|owner| owner.uid == uid)
}

/// Returns the reference that makes `owner` the manager of an object.
#[must_use]
pub fn controller_reference<K: ApiObject>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: owner.metadata().name.clone().unwrap_or_default(),
        uid: owner.metadata().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
