//! Checks of what steers the scheduler: tolerations, topology constraints and gates.

use proto::api::names;
use serde_json::Value;

use super::super::super::validation::field::{
    all_invalid, duplicate, forbidden, invalid, not_supported, required,
};
use super::super::super::value::{at, integer, list, objects, text};
use super::super::super::{FieldError, Object};

const TOLERATION_EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Checks tolerations, constraints and gates of a pod's spec.
pub(super) fn validate(field: &str, spec: &Object) -> Vec<FieldError> {
    let mut errors = validate_tolerations(&format!("{field}.tolerations"), spec);
    errors.extend(validate_constraints(&format!("{field}.topologySpreadConstraints"), spec));
    errors.extend(validate_gates(field, spec));
    errors
}

fn validate_constraints(field: &str, spec: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, constraint) in objects(spec, &["topologySpreadConstraints"]).enumerate() {
        let field = format!("{field}[{index}]");
        let skew = integer(constraint, &["maxSkew"]).unwrap_or_default();
        if skew <= 0 {
            errors.push(invalid(format!("{field}.maxSkew"), &Value::from(skew), "must be greater than zero"));
        }
        if text(constraint, &["topologyKey"]).is_empty() {
            errors.push(required(format!("{field}.topologyKey"), "can not be empty"));
        }
        let otherwise = text(constraint, &["whenUnsatisfiable"]);
        if !matches!(otherwise, "DoNotSchedule" | "ScheduleAnyway") {
            let known = ["DoNotSchedule", "ScheduleAnyway"];
            errors.push(not_supported(format!("{field}.whenUnsatisfiable"), otherwise, &known));
        }
    }
    errors
}

fn validate_tolerations(field: &str, spec: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, toleration) in objects(spec, &["tolerations"]).enumerate() {
        let field = format!("{field}[{index}]");
        let part = |name: &'static str| text(toleration, &[name]);
        let (key, operator, effect) = (part("key"), part("operator"), part("effect"));
        if !key.is_empty() {
            errors.extend(all_invalid(&format!("{field}.key"), key, names::qualified_name(key)));
        } else if operator != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(invalid(format!("{field}.operator"), &Value::from(operator), detail));
        }
        if at(toleration, &["tolerationSeconds"]).is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(invalid(format!("{field}.effect"), &Value::from(effect), detail));
        }
        match operator {
            "" | "Equal" | "Lt" | "Gt" => {
                errors.extend(all_invalid(
                    &format!("{field}.operator"),
                    part("value"),
                    names::label_value(part("value")),
                ));
            }
            "Exists" if !part("value").is_empty() => {
                let value = Value::Object(toleration.clone());
                errors.push(invalid(
                    format!("{field}.operator"),
                    &value,
                    "value must be empty when `operator` is 'Exists'",
                ));
            }
            "Exists" => {}
            other => errors.push(not_supported(format!("{field}.operator"), other, &["Equal", "Exists"])),
        }
        if !effect.is_empty() && !TOLERATION_EFFECTS.contains(&effect) {
            errors.push(not_supported(format!("{field}.effect"), effect, &TOLERATION_EFFECTS));
        }
    }
    errors
}

fn validate_gates(field: &str, spec: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (index, gate) in objects(spec, &["schedulingGates"]).enumerate() {
        let (field, name) = (format!("{field}.schedulingGates[{index}]"), text(gate, &["name"]));
        errors.extend(all_invalid(&field, name, names::qualified_name(name)));
        if seen.contains(&name) {
            errors.push(duplicate(field, &Value::from(name)));
        }
        seen.push(name);
    }
    if !list(spec, &["schedulingGates"]).is_empty() && !text(spec, &["nodeName"]).is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(forbidden(format!("{field}.nodeName"), detail));
    }
    errors
}
