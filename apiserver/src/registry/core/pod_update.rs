//! What a pod's spec may still change once it exists: images, tolerations, gates and deadlines.

use serde_json::Value;

use super::super::validation::field::{forbidden, invalid};
use super::super::value::{at, integer, list, objects, objects_mut, text};
use super::super::{FieldError, Object};

const ALLOWED: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Checks the change of a pod's spec.
pub(super) fn validate(spec: &Object, old: &Object) -> Vec<FieldError> {
    for containers in ["containers", "initContainers"] {
        if list(spec, &[containers]).len() != list(old, &[containers]).len() {
            return vec![forbidden(
                format!("spec.{containers}"),
                "pod updates may not add or remove containers",
            )];
        }
    }
    let mut errors = Vec::new();
    errors.extend(validate_deadline(spec, old));
    for gate in objects(spec, &["schedulingGates"]) {
        let name = text(gate, &["name"]);
        if !objects(old, &["schedulingGates"]).any(|known| text(known, &["name"]) == name) {
            let index =
                objects(spec, &["schedulingGates"]).position(|other| other == gate).unwrap_or_default();
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.push(forbidden(format!("spec.schedulingGates[{index}].name"), &detail));
        }
    }
    if !errors.is_empty() {
        return errors;
    }
    if fixed_part(spec, old) != *old {
        errors.push(forbidden("spec", ALLOWED));
    }
    errors
}

/// A deadline may be set, and moved closer.
fn validate_deadline(spec: &Object, old: &Object) -> Option<FieldError> {
    const FIELD: &str = "spec.activeDeadlineSeconds";
    let before = integer(old, &["activeDeadlineSeconds"])?;
    match integer(spec, &["activeDeadlineSeconds"]) {
        None => Some(invalid(FIELD, &Value::Null, "must not update from a positive integer to nil value")),
        Some(now) if now > before => {
            Some(invalid(FIELD, &Value::from(now), "must be less than or equal to previous value"))
        }
        Some(_) => None,
    }
}

/// Returns the new spec with everything that may change put back to what it was.
fn fixed_part(spec: &Object, old: &Object) -> Object {
    let mut fixed = spec.clone();
    for containers in ["containers", "initContainers"] {
        let images: Vec<Value> = objects(old, &[containers])
            .map(|container| container.get("image").cloned().unwrap_or_default())
            .collect();
        for (container, image) in objects_mut(&mut fixed, containers).zip(images) {
            container.insert("image".to_owned(), image);
        }
    }
    let kept = list(old, &["tolerations"]).iter().all(|known| list(spec, &["tolerations"]).contains(known));
    let mut free = vec!["activeDeadlineSeconds", "schedulingGates"];
    if kept {
        free.push("tolerations");
    }
    if !list(old, &["schedulingGates"]).is_empty() {
        // A pod that is held back may still be narrowed.
        free.extend(["nodeSelector", "affinity"]);
    }
    for field in free {
        match at(old, &[field]) {
            Some(value) => fixed.insert(field.to_owned(), value.clone()),
            None => fixed.remove(field),
        };
    }
    fixed
}
