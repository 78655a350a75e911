//! Checks of probes and lifecycle hooks.

use proto::api::names;
use serde_json::Value;

use super::super::super::validation::field::{all_invalid, forbidden, invalid, not_supported, required};
use super::super::super::value::{at, integer, list, object, text};
use super::super::super::{FieldError, Object};

/// Handlers in the order they are looked at; the second one given is one too many.
const HANDLERS: [&str; 5] = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

/// Checks the probes and hooks of a container.
pub(super) fn validate_all(field: &str, container: &Object, grace_seconds: i64) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for hook in ["postStart", "preStop"] {
        if let Some(handler) = object(container, &["lifecycle", hook]) {
            errors.extend(validate_handler(&format!("{field}.lifecycle.{hook}"), handler, grace_seconds));
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = object(container, &[name]) {
            errors.extend(validate_probe(&format!("{field}.{name}"), name, probe, grace_seconds));
        }
    }
    errors
}

fn validate_probe(field: &str, name: &str, probe: &Object, grace_seconds: i64) -> Vec<FieldError> {
    let mut errors = validate_handler(field, probe, grace_seconds);
    for number in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        if let Some(value) = integer(probe, &[number]).filter(|value| *value < 0) {
            let detail = "must be greater than or equal to 0";
            errors.push(invalid(format!("{field}.{number}"), &Value::from(value), detail));
        }
    }
    if let Some(grace) = integer(probe, &["terminationGracePeriodSeconds"]) {
        let path = format!("{field}.terminationGracePeriodSeconds");
        if name == "readinessProbe" {
            errors.push(invalid(path, &Value::from(grace), "must not be set for readinessProbes"));
        } else if grace <= 0 {
            errors.push(invalid(path, &Value::from(grace), "must be greater than 0"));
        }
    }
    let threshold = integer(probe, &["successThreshold"]).unwrap_or(1);
    if name != "readinessProbe" && threshold != 1 {
        errors.push(invalid(format!("{field}.successThreshold"), &Value::from(threshold), "must be 1"));
    }
    errors
}

fn validate_handler(field: &str, handler: &Object, grace_seconds: i64) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut count = 0;
    for name in HANDLERS.iter().filter(|name| at(handler, &[name]).is_some()) {
        let field = format!("{field}.{name}");
        count += 1;
        if count > 1 {
            errors.push(forbidden(field, "may not specify more than 1 handler type"));
            continue;
        }
        let Some(action) = object(handler, &[name]) else { continue };
        errors.extend(match *name {
            "exec" if list(action, &["command"]).is_empty() => vec![required(format!("{field}.command"), "")],
            "httpGet" => validate_http_get(&field, action),
            "tcpSocket" | "grpc" => validate_port(&format!("{field}.port"), at(action, &["port"])),
            "sleep" => validate_sleep(&field, action, grace_seconds),
            _ => Vec::new(),
        });
    }
    if count == 0 {
        errors.push(required(field, "must specify a handler type"));
    }
    errors
}

fn validate_http_get(field: &str, action: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if text(action, &["path"]).is_empty() {
        errors.push(required(format!("{field}.path"), ""));
    }
    errors.extend(validate_port(&format!("{field}.port"), at(action, &["port"])));
    let scheme = text(action, &["scheme"]);
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.push(not_supported(format!("{field}.scheme"), scheme, &["HTTP", "HTTPS"]));
    }
    errors
}

/// Checks a port given by number or name.
fn validate_port(field: &str, port: Option<&Value>) -> Vec<FieldError> {
    match port {
        Some(Value::String(name)) => all_invalid(field, name, names::port_name(name)),
        port => {
            let number = port.and_then(Value::as_i64).unwrap_or_default();
            names::port_number(number)
                .iter()
                .map(|detail| invalid(field, &Value::from(number), detail))
                .collect()
        }
    }
}

fn validate_sleep(field: &str, action: &Object, grace_seconds: i64) -> Vec<FieldError> {
    let seconds = integer(action, &["seconds"]).unwrap_or_default();
    if (0..=grace_seconds).contains(&seconds) {
        return Vec::new();
    }
    let detail =
        format!("must be non-negative and less than terminationGracePeriodSeconds ({grace_seconds})");
    vec![invalid(field, &Value::from(seconds), &detail)]
}
