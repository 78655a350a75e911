//! Checks of a container's requests and limits.

use proto::api::quantity::Quantity;
use serde_json::Value;

use super::super::super::validation::field::{forbidden, invalid, required};
use super::super::super::value::{at, entries};
use super::super::super::{FieldError, Object};

/// Resources of containers that need no domain.
const STANDARD: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Known resources that containers do not have.
const FOREIGN: [&str; 8] = [
    "pods",
    "services",
    "secrets",
    "configmaps",
    "storage",
    "persistentvolumeclaims",
    "resourcequotas",
    "replicationcontrollers",
];

/// Checks `resources` of a container.
pub(super) fn validate(field: &str, container: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for part in ["limits", "requests"] {
        for (name, amount) in entries(container, &["resources", part]) {
            let field = format!("{field}.{part}[{name}]");
            errors.extend(validate_name(&field, name));
            errors.extend(validate_amount(&field, name, amount));
            if part == "requests" {
                errors.extend(validate_request(&field, name, amount, container));
            }
        }
    }
    let huge =
        |part: &str| entries(container, &["resources", part]).any(|(name, _)| name.starts_with("hugepages-"));
    let basic = |part: &str| {
        entries(container, &["resources", part]).any(|(name, _)| matches!(name.as_str(), "cpu" | "memory"))
    };
    if (huge("limits") || huge("requests")) && !basic("limits") && !basic("requests") {
        errors.push(forbidden(field, "HugePages require cpu or memory"));
    }
    errors
}

fn validate_name(field: &str, name: &str) -> Vec<FieldError> {
    const NOT_FOR_CONTAINERS: &str = "must be a standard resource for containers";
    if name.contains('/') || STANDARD.contains(&name) || name.starts_with("hugepages-") {
        return Vec::new();
    }
    let value = Value::from(name);
    let mut errors = Vec::new();
    if !FOREIGN.contains(&name) {
        errors.push(invalid(field, &value, "must be a standard resource type or fully qualified"));
    }
    errors.push(invalid(field, &value, NOT_FOR_CONTAINERS));
    errors
}

fn validate_amount(field: &str, name: &str, amount: &Value) -> Vec<FieldError> {
    let Some(quantity) = amount.as_str().and_then(|text| text.parse::<Quantity>().ok()) else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    if quantity.is_negative() {
        errors.push(invalid(field, amount, "must be greater than or equal to 0"));
    }
    if name.contains('/') && !quantity.is_whole() {
        errors.push(invalid(field, amount, "must be an integer"));
    }
    errors
}

/// A request stays within its limit; extended resources cannot be overcommitted, so both are equal.
fn validate_request(field: &str, name: &str, amount: &Value, container: &Object) -> Option<FieldError> {
    let limit = at(container, &["resources", "limits", name]);
    let extended = name.contains('/') || name.starts_with("hugepages-");
    let Some(limit) = limit else {
        return extended.then(|| {
            let parent = field.split(".requests[").next().unwrap_or(field);
            required(format!("{parent}.limits"), "Limit must be set for non overcommitable resources")
        });
    };
    let quantity = |value: &Value| value.as_str().and_then(|text| text.parse::<Quantity>().ok());
    let (request, bound) = (quantity(amount)?, quantity(limit)?);
    // Upstream names the list of requests, not the resource in it.
    let parent = field.rsplit_once('[').map_or(field, |(list, _)| list);
    if extended && request != bound {
        let detail = format!("must be equal to {name} limit of {bound}");
        return Some(invalid(parent, amount, &detail));
    }
    (request > bound).then(|| {
        let detail = format!("must be less than or equal to {name} limit of {bound}");
        invalid(parent, amount, &detail)
    })
}
