//! Checks of a node's taints; upstream names their path `metadata.taints`.

use proto::api::names;
use serde_json::Value;

use super::super::validation::field::{all_invalid, duplicate, not_supported, required};
use super::super::value::{objects, text};
use super::super::{FieldError, Object};

/// What a taint may do.
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Checks `spec.taints`.
pub(super) fn validate(node: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (index, taint) in objects(node, &["spec", "taints"]).enumerate() {
        let field = format!("metadata.taints[{index}]");
        let (key, value, effect) = (text(taint, &["key"]), text(taint, &["value"]), text(taint, &["effect"]));
        errors.extend(all_invalid(&format!("{field}.key"), key, names::qualified_name(key)));
        errors.extend(all_invalid(&format!("{field}.value"), value, names::label_value(value)));
        if effect.is_empty() {
            errors.push(required(format!("{field}.effect"), ""));
        } else if !EFFECTS.contains(&effect) {
            errors.push(not_supported(format!("{field}.effect"), effect, &EFFECTS));
        }
        if seen.contains(&(key, effect)) {
            let mut error = duplicate(&field, &Value::Object(taint.clone()));
            error.message.push_str(": taints must be unique by key and effect pair");
            errors.push(error);
        }
        seen.push((key, effect));
    }
    errors
}
