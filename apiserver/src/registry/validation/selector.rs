//! Checks of label selectors in specs (`metav1.LabelSelector`).

use proto::api::names;
use serde_json::Value;

use super::super::FieldError;
use super::super::value::{entries, list, objects, text};
use super::field::{all_invalid, forbidden, invalid, required};

/// Checks a selector's keys, values and operators.
pub fn validate(field: &str, selector: &Value) -> Vec<FieldError> {
    let Some(selector) = selector.as_object() else { return Vec::new() };
    let mut errors = Vec::new();
    for (key, value) in entries(selector, &["matchLabels"]) {
        let field = format!("{field}.matchLabels");
        errors.extend(all_invalid(&field, key, names::qualified_name(key)));
        let value = value.as_str().unwrap_or_default();
        errors.extend(all_invalid(&field, value, names::label_value(value)));
    }
    for (index, expression) in objects(selector, &["matchExpressions"]).enumerate() {
        let field = format!("{field}.matchExpressions[{index}]");
        let (key, operator) = (text(expression, &["key"]), text(expression, &["operator"]));
        let values = list(expression, &["values"]);
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(required(format!("{field}.values"), detail));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(forbidden(format!("{field}.values"), detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                errors.push(invalid(
                    format!("{field}.operator"),
                    &Value::from(other),
                    "not a valid selector operator",
                ));
            }
        }
        errors.extend(all_invalid(&format!("{field}.key"), key, names::qualified_name(key)));
        for (index, value) in values.iter().filter_map(Value::as_str).enumerate() {
            errors.extend(all_invalid(&format!("{field}.values[{index}]"), value, names::label_value(value)));
        }
    }
    errors
}

/// Reports whether a selector has no requirement at all.
pub fn is_empty(selector: &Value) -> bool {
    let Some(selector) = selector.as_object() else { return true };
    entries(selector, &["matchLabels"]).next().is_none() && list(selector, &["matchExpressions"]).is_empty()
}
