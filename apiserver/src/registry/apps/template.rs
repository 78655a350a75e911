//! What workloads share: a selector that must match the labels of a pod template, and cells about it.

use proto::api::labels::Selector;
use serde_json::Value;

use super::super::pod_spec::{TemplateRules, validate_template};
use super::super::table::or_none;
use super::super::validation::field::{invalid, required};
use super::super::validation::selector;
use super::super::value::{at, integer, object, objects, text};
use super::super::{FieldError, Object};

/// Checks `spec.selector` and `spec.template` against each other.
pub(super) fn validate_selector_and_template(workload: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let selector = at(workload, &["spec", "selector"]);
    match selector {
        None => errors.push(required("spec.selector", "")),
        Some(value) => {
            errors.extend(selector::validate("spec.selector", value));
            if selector::is_empty(value) {
                errors.push(invalid("spec.selector", value, "empty selector is invalid for deployment"));
            }
        }
    }
    match Selector::from_value(selector.unwrap_or(&Value::Null)) {
        Ok(parsed) => {
            let labels = at(workload, &["spec", "template", "metadata", "labels"]);
            if !parsed.is_everything() && !parsed.matches_value(labels) {
                let labels = labels.unwrap_or(&Value::Null);
                let detail = "`selector` does not match template `labels`";
                errors.push(invalid("spec.template.metadata.labels", labels, detail));
            }
        }
        Err(_) => {
            errors.push(invalid("spec.selector", selector.unwrap_or(&Value::Null), "invalid label selector"));
        }
    }
    let empty = Object::new();
    let template = object(workload, &["spec", "template"]).unwrap_or(&empty);
    errors.extend(validate_template("spec.template", template, TemplateRules::LongRunning));
    errors
}

/// Checks that numbers of the spec are not negative.
pub(super) fn validate_not_negative(workload: &Object, fields: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in fields {
        if let Some(number) = integer(workload, &["spec", field]).filter(|number| *number < 0) {
            errors.push(invalid(
                format!("spec.{field}"),
                &Value::from(number),
                "must be greater than or equal to 0",
            ));
        }
    }
    errors
}

/// Returns the cells `Containers`, `Images` and `Selector`.
pub(super) fn wide_cells(workload: &Object) -> [Value; 3] {
    let containers = |field: &'static str| -> String {
        let values =
            objects(workload, &["spec", "template", "spec", "containers"]).map(|item| text(item, &[field]));
        values.collect::<Vec<_>>().join(",")
    };
    let selector =
        at(workload, &["spec", "selector"]).and_then(|selector| Selector::from_value(selector).ok());
    let selector = selector.map(|selector| selector.to_string()).unwrap_or_default();
    [Value::from(containers("name")), Value::from(containers("image")), or_none(&selector)]
}
