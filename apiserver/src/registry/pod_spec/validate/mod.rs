//! Checks of a pod's spec: of the fields that the node agent and the scheduler act on.
//!
//! Reading order: this file (the spec), [`container`], [`env`], [`probe`], [`resources`], [`volume`]. Security contexts,
//! affinity terms and topology constraints are not checked beyond their types yet.

mod container;
mod env;
mod probe;
mod resources;
mod volume;

use proto::api::names;
use serde_json::Value;

use super::super::validation::field::{all_invalid, duplicate, forbidden, invalid, not_supported, required};
use super::super::validation::metadata::{annotations, labels};
use super::super::value::{at, integer, is_true, list, objects, text};
use super::super::{FieldError, Object};

const RESTART_POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];
const DNS_POLICIES: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
const TOLERATION_EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
/// Largest value of fields that upstream keeps in 32 bits.
const INT32_MAX: i64 = 2_147_483_647;

/// What the owner of a template demands of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::registry) enum TemplateRules {
    /// Pods that are restarted and never end by themselves.
    LongRunning,
}

/// Checks a pod template.
pub(in crate::registry) fn validate_template(
    field: &str,
    template: &Object,
    rules: TemplateRules,
) -> Vec<FieldError> {
    let mut errors = labels(template, &format!("{field}.labels"), &["metadata", "labels"]);
    errors.extend(annotations(template, &format!("{field}.annotations"), &["metadata", "annotations"]));
    let empty = Object::new();
    let spec = template.get("spec").and_then(Value::as_object).unwrap_or(&empty);
    let field = format!("{field}.spec");
    errors.extend(validate_spec(&field, spec));
    match rules {
        TemplateRules::LongRunning => {
            let policy = text(spec, &["restartPolicy"]);
            // Without containers the policy was never defaulted and says nothing.
            if policy != "Always" && RESTART_POLICIES.contains(&policy) {
                errors.push(not_supported(format!("{field}.restartPolicy"), policy, &["Always"]));
            }
            if at(spec, &["activeDeadlineSeconds"]).is_some() {
                let detail = "activeDeadlineSeconds in ReplicaSet is not Supported";
                errors.push(forbidden(format!("{field}.activeDeadlineSeconds"), detail));
            }
        }
    }
    errors
}

/// Checks a pod's spec.
pub(in crate::registry) fn validate_spec(field: &str, spec: &Object) -> Vec<FieldError> {
    let mut errors = volume::validate(&format!("{field}.volumes"), spec);
    let context = container::Surroundings::of(spec);
    errors.extend(container::validate_all(field, spec, &context));
    let policy = text(spec, &["restartPolicy"]);
    if !RESTART_POLICIES.contains(&policy) {
        errors.push(choice(&format!("{field}.restartPolicy"), policy, &RESTART_POLICIES));
    }
    let dns = text(spec, &["dnsPolicy"]);
    if !DNS_POLICIES.contains(&dns) {
        errors.push(choice(&format!("{field}.dnsPolicy"), dns, &DNS_POLICIES));
    }
    if let Some(seconds) = integer(spec, &["terminationGracePeriodSeconds"]).filter(|seconds| *seconds < 0) {
        let detail = "must be greater than or equal to 0";
        errors.push(invalid(format!("{field}.terminationGracePeriodSeconds"), &Value::from(seconds), detail));
    }
    if let Some(seconds) = integer(spec, &["activeDeadlineSeconds"])
        && !(1..=INT32_MAX).contains(&seconds)
    {
        let detail = format!("must be between 1 and {INT32_MAX}, inclusive");
        errors.push(invalid(format!("{field}.activeDeadlineSeconds"), &Value::from(seconds), &detail));
    }
    errors.extend(labels(spec, &format!("{field}.nodeSelector"), &["nodeSelector"]));
    errors.extend(validate_names(field, spec));
    errors.extend(validate_tolerations(&format!("{field}.tolerations"), spec));
    errors.extend(validate_gates(field, spec));
    errors
}

fn validate_names(field: &str, spec: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, rule) in [
        ("serviceAccountName", names::dns_subdomain as fn(&str) -> Vec<String>),
        ("nodeName", names::dns_subdomain),
        ("hostname", names::dns_label),
        ("subdomain", names::dns_label),
        ("priorityClassName", names::dns_subdomain),
        ("runtimeClassName", names::dns_subdomain),
        ("schedulerName", names::qualified_name),
    ] {
        let value = text(spec, &[name]);
        if !value.is_empty() {
            errors.extend(all_invalid(&format!("{field}.{name}"), value, rule(value)));
        }
    }
    if is_true(spec, &["hostPID"]) && is_true(spec, &["shareProcessNamespace"]) {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(invalid(
            format!("{field}.securityContext.shareProcessNamespace"),
            &Value::from(true),
            detail,
        ));
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

/// A choice that was not made is required; one that does not exist is not supported.
fn choice(field: &str, value: &str, known: &[&str]) -> FieldError {
    if value.is_empty() { required(field, "") } else { not_supported(field, value, known) }
}

#[cfg(test)]
mod tests;
