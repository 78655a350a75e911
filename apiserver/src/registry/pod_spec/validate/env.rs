//! Checks of environment variables and their sources.

use proto::api::names;
use serde_json::Value;

use super::super::super::validation::field::{all_invalid, invalid, not_supported, required};
use super::super::super::value::{at, object, objects, text};
use super::super::super::{FieldError, Object};

/// Sources of a variable, of which exactly one is given.
const SOURCES: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
/// Fields of a pod that a variable may hold.
const POD_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// Checks `env` and `envFrom` of a container.
pub(super) fn validate(field: &str, container: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, variable) in objects(container, &["env"]).enumerate() {
        let field = format!("{field}.env[{index}]");
        let name = text(variable, &["name"]);
        if name.is_empty() {
            errors.push(required(format!("{field}.name"), ""));
        } else {
            errors.extend(all_invalid(&format!("{field}.name"), name, names::environment_name(name)));
        }
        if let Some(source) = object(variable, &["valueFrom"]) {
            let has_value = !text(variable, &["value"]).is_empty();
            errors.extend(validate_source(&format!("{field}.valueFrom"), source, has_value));
        }
    }
    for (index, source) in objects(container, &["envFrom"]).enumerate() {
        errors.extend(validate_bulk(&format!("{field}.envFrom"), index, source));
    }
    errors
}

fn validate_source(field: &str, source: &Object, has_value: bool) -> Vec<FieldError> {
    let empty = Value::from("");
    let given: Vec<&str> = SOURCES.iter().copied().filter(|name| at(source, &[name]).is_some()).collect();
    let mut errors = Vec::new();
    for name in &given {
        let field = format!("{field}.{name}");
        let Some(reference) = object(source, &[name]) else { continue };
        match *name {
            "fieldRef" => errors.extend(validate_pod_field(&field, text(reference, &["fieldPath"]))),
            "resourceFieldRef" => {
                let resource = text(reference, &["resource"]);
                if resource.is_empty() {
                    errors.push(required(format!("{field}.resource"), ""));
                } else if !RESOURCES.contains(&resource) && !resource.contains(".hugepages-") {
                    errors.push(not_supported(format!("{field}.resource"), resource, &RESOURCES));
                }
            }
            "configMapKeyRef" | "secretKeyRef" => {
                let (name, key) = (text(reference, &["name"]), text(reference, &["key"]));
                errors.extend(all_invalid(&format!("{field}.name"), name, names::dns_subdomain(name)));
                if key.is_empty() {
                    errors.push(required(format!("{field}.key"), ""));
                } else {
                    errors.extend(all_invalid(&format!("{field}.key"), key, names::config_key(key)));
                }
            }
            _ => {}
        }
    }
    if given.is_empty() {
        let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.push(invalid(field, &empty, detail));
    } else if has_value {
        errors.push(invalid(field, &empty, "may not be specified when `value` is not empty"));
    } else if given.len() > 1 {
        errors.push(invalid(field, &empty, "may not have more than one field specified at a time"));
    }
    errors
}

fn validate_pod_field(field: &str, path: &str) -> Option<FieldError> {
    let field = format!("{field}.fieldPath");
    if path.is_empty() {
        return Some(required(field, ""));
    }
    let subscript =
        ["metadata.labels['", "metadata.annotations['"].iter().any(|prefix| path.starts_with(prefix));
    let known = POD_FIELDS.contains(&path) || (subscript && path.ends_with("']"));
    (!known).then(|| {
        let detail = format!("error converting fieldPath: field label not supported: {path}");
        invalid(field, &Value::from(path), &detail)
    })
}

fn validate_bulk(list: &str, index: usize, source: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let field = format!("{list}[{index}]");
    let prefix = text(source, &["prefix"]);
    if !prefix.is_empty() {
        errors.extend(all_invalid(&format!("{field}.prefix"), prefix, names::environment_name(prefix)));
    }
    let given: Vec<&str> =
        ["configMapRef", "secretRef"].into_iter().filter(|name| at(source, &[name]).is_some()).collect();
    for name in &given {
        let reference = text(source, &[name, "name"]);
        let field = format!("{field}.{name}.name");
        if reference.is_empty() {
            errors.push(required(field, ""));
        } else {
            errors.extend(all_invalid(&field, reference, names::dns_subdomain(reference)));
        }
    }
    // Upstream leaves the item's position out of these paths.
    match given.len() {
        1 => {}
        0 => {
            errors.push(invalid(list, &Value::from(""), "must specify one of: `configMapRef` or `secretRef`"))
        }
        _ => errors.push(invalid(
            list,
            &Value::from(""),
            "may not have more than one field specified at a time",
        )),
    }
    errors
}
