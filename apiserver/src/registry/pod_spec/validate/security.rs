//! Checks of security contexts: ids, and profiles that name a file.

use serde_json::Value;

use super::super::super::validation::field::{invalid, not_supported, required};
use super::super::super::value::{integer, list, object, text};
use super::super::super::{FieldError, Object};
use super::INT32_MAX;

/// Checks the security context of a pod.
pub(super) fn validate_pod(field: &str, spec: &Object) -> Vec<FieldError> {
    let Some(context) = object(spec, &["securityContext"]) else { return Vec::new() };
    let mut errors = validate_ids(field, context, &["fsGroup", "runAsUser", "runAsGroup"]);
    for (index, group) in list(context, &["supplementalGroups"]).iter().filter_map(Value::as_i64).enumerate()
    {
        errors.extend(validate_id(&format!("{field}.supplementalGroups[{index}]"), group));
    }
    errors.extend(validate_seccomp(field, context));
    let policy = text(context, &["fsGroupChangePolicy"]);
    if !matches!(policy, "" | "Always" | "OnRootMismatch") {
        errors.push(not_supported(
            format!("{field}.fsGroupChangePolicy"),
            policy,
            &["Always", "OnRootMismatch"],
        ));
    }
    errors
}

/// Checks the security context of a container.
pub(super) fn validate_container(field: &str, container: &Object) -> Vec<FieldError> {
    let Some(context) = object(container, &["securityContext"]) else { return Vec::new() };
    let mut errors = validate_ids(field, context, &["runAsUser", "runAsGroup"]);
    let mount = text(context, &["procMount"]);
    if !matches!(mount, "" | "Default" | "Unmasked") {
        errors.push(not_supported(format!("{field}.procMount"), mount, &["Default", "Unmasked"]));
    }
    errors.extend(validate_seccomp(field, context));
    errors
}

fn validate_ids(field: &str, context: &Object, names: &[&str]) -> Vec<FieldError> {
    let id = |name: &&str| Some(((*name).to_owned(), integer(context, &[name])?));
    names.iter().filter_map(id).filter_map(|(name, id)| validate_id(&format!("{field}.{name}"), id)).collect()
}

fn validate_id(field: &str, id: i64) -> Option<FieldError> {
    let detail = format!("must be between 0 and {INT32_MAX}, inclusive");
    (!(0..=INT32_MAX).contains(&id)).then(|| invalid(field, &Value::from(id), &detail))
}

/// A profile on the node needs its name; any other kind must not have one.
fn validate_seccomp(field: &str, context: &Object) -> Option<FieldError> {
    let profile = object(context, &["seccompProfile"])?;
    let (kind, file) = (text(profile, &["type"]), text(profile, &["localhostProfile"]));
    let field = format!("{field}.seccompProfile");
    match kind {
        "Localhost" if file.is_empty() => {
            Some(required(format!("{field}.localhostProfile"), "must be set when seccomp type is Localhost"))
        }
        "Localhost" => None,
        "RuntimeDefault" | "Unconfined" if file.is_empty() => None,
        "RuntimeDefault" | "Unconfined" => Some(invalid(
            format!("{field}.localhostProfile"),
            &Value::from(file),
            "can only be set when seccomp type is Localhost",
        )),
        "" => Some(required(format!("{field}.type"), "type is required when seccompProfile is set")),
        other => Some(not_supported(
            format!("{field}.type"),
            other,
            &["Localhost", "RuntimeDefault", "Unconfined"],
        )),
    }
}
