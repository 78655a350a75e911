//! Checks of a pod's spec: of the fields that the node agent and the scheduler act on.
//!
//! Reading order: this file (the spec), [`container`], [`mod@env`], [`probe`], [`resources`], [`volume`], [`security`],
//! [`scheduling`]. Affinity terms, dynamic resources and what only Windows has are not checked beyond their types yet.

mod container;
mod env;
mod probe;
mod resources;
mod scheduling;
mod security;
mod volume;

use proto::api::names;
use serde_json::Value;

use super::super::validation::field::{all_invalid, forbidden, invalid, not_supported, required};
use super::super::validation::metadata::{annotations, labels};
use super::super::value::{at, integer, is_true, text};
use super::super::{FieldError, Object};

const RESTART_POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];
const DNS_POLICIES: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
/// Largest value of fields that upstream keeps in 32 bits.
const INT32_MAX: i64 = 2_147_483_647;

/// A rule about a name: its findings.
type NameCheck = fn(&str) -> Vec<String>;

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
    if let Some(seconds) = integer(spec, &["activeDeadlineSeconds"])
        && !(1..=INT32_MAX).contains(&seconds)
    {
        let detail = format!("must be between 1 and {INT32_MAX}, inclusive");
        errors.push(invalid(format!("{field}.activeDeadlineSeconds"), &Value::from(seconds), &detail));
    }
    errors.extend(labels(spec, &format!("{field}.nodeSelector"), &["nodeSelector"]));
    errors.extend(validate_names(field, spec));
    errors.extend(security::validate_pod(&format!("{field}.securityContext"), spec));
    errors.extend(scheduling::validate(field, spec));
    errors
}

fn validate_names(field: &str, spec: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let rules: [(&str, NameCheck); 6] = [
        ("serviceAccountName", names::dns_subdomain),
        ("nodeName", names::dns_subdomain),
        ("hostname", names::dns_label),
        ("subdomain", names::dns_label),
        ("priorityClassName", names::dns_subdomain),
        ("runtimeClassName", names::dns_subdomain),
    ];
    for (name, rule) in rules {
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

/// A choice that was not made is required; one that does not exist is not supported.
fn choice(field: &str, value: &str, known: &[&str]) -> FieldError {
    if value.is_empty() { required(field, "") } else { not_supported(field, value, known) }
}

#[cfg(test)]
mod tests;
