//! Adoption and release: which objects a controller manages, by owner reference and selector. Pure.

use std::sync::Arc;

use client::ApiObject;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use proto::api::labels::Selector;
use serde_json::json;

use crate::pods::{controller_of, controller_reference};
use crate::runtime::Action;

/// Reads the selector of a workload; one that selects everything or cannot be read selects nothing here.
#[must_use]
pub fn workload_selector(selector: &LabelSelector) -> Option<Selector> {
    let value = serde_json::to_value(selector).ok()?;
    Selector::from_value(&value).ok().filter(|selector| !selector.is_everything())
}

/// What an owner manages, and the writes that make it so.
#[derive(Debug)]
pub struct Claim<K> {
    pub managed: Vec<Arc<K>>,
    pub actions: Vec<Action>,
}

/// Sorts candidates into managed ones, releasing those that no longer match and adopting orphans that do.
pub fn claim<O: ApiObject, K: ApiObject>(owner: &O, selector: &Selector, candidates: &[Arc<K>]) -> Claim<K> {
    let mut claim = Claim { managed: Vec::new(), actions: Vec::new() };
    let owner_uid = owner.metadata().uid.as_deref().unwrap_or_default();
    let owner_lives = owner.metadata().deletion_timestamp.is_none();
    for candidate in candidates {
        let metadata = candidate.metadata();
        let matches = selector.matches(metadata.labels.as_ref());
        let candidate_lives = metadata.deletion_timestamp.is_none();
        match controller_of(candidate.as_ref()) {
            Some(controller) if controller.uid == owner_uid && matches => {
                claim.managed.push(Arc::clone(candidate));
            }
            Some(controller) if controller.uid == owner_uid && owner_lives && candidate_lives => {
                claim.actions.push(release(candidate.as_ref(), owner_uid));
            }
            Some(_) => {}
            None if matches && owner_lives && candidate_lives => {
                claim.actions.push(adopt(candidate.as_ref(), controller_reference(owner)));
                claim.managed.push(Arc::clone(candidate));
            }
            None => {}
        }
    }
    claim
}

fn adopt<K: ApiObject>(object: &K, reference: OwnerReference) -> Action {
    let mut owners = object.metadata().owner_references.clone().unwrap_or_default();
    owners.retain(|owner| owner.uid != reference.uid);
    owners.push(reference);
    Action::patch_metadata(object, json!({ "ownerReferences": owners }))
}

fn release<K: ApiObject>(object: &K, owner_uid: &str) -> Action {
    let mut owners = object.metadata().owner_references.clone().unwrap_or_default();
    owners.retain(|owner| owner.uid != owner_uid);
    Action::patch_metadata(object, json!({ "ownerReferences": owners }))
}
