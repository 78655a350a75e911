//! Checks of containers of every kind.

use std::collections::BTreeSet;

use proto::api::names;
use serde_json::Value;

use super::super::super::validation::field::{
    all_invalid, duplicate, forbidden, invalid, not_found, not_supported, required,
};
use super::super::super::value::{at, integer, is_true, objects, text};
use super::super::super::{FieldError, Object};
use super::{env, probe, resources, security};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const MESSAGE_POLICIES: [&str; 2] = ["File", "FallbackToLogsOnError"];

/// What a container's checks need to know of the pod around it.
pub(super) struct Surroundings<'a> {
    volumes: BTreeSet<&'a str>,
    host_network: bool,
    grace_seconds: i64,
}

impl<'a> Surroundings<'a> {
    /// Reads the surroundings from a pod's spec.
    pub(super) fn of(spec: &'a Object) -> Self {
        Self {
            volumes: objects(spec, &["volumes"]).map(|volume| text(volume, &["name"])).collect(),
            host_network: is_true(spec, &["hostNetwork"]),
            grace_seconds: integer(spec, &["terminationGracePeriodSeconds"]).unwrap_or_default(),
        }
    }
}

/// Checks containers and init containers; names are unique over both.
pub(super) fn validate_all(field: &str, spec: &Object, surroundings: &Surroundings<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    if objects(spec, &["containers"]).next().is_none() {
        errors.push(required(format!("{field}.containers"), ""));
    }
    for list in ["containers", "initContainers"] {
        let mut host_ports = BTreeSet::new();
        for (index, container) in objects(spec, &[list]).enumerate() {
            let field = format!("{field}.{list}[{index}]");
            errors.extend(validate_name(&field, container, &mut seen));
            errors.extend(validate_one(&field, container, surroundings, &mut host_ports));
            if list == "initContainers" && text(container, &["restartPolicy"]) != "Always" {
                errors.extend(forbid_for_init(&field, container));
            }
        }
    }
    errors
}

/// Init containers that end have no life to probe or to hook into.
fn forbid_for_init(field: &str, container: &Object) -> Vec<FieldError> {
    const DETAIL: &str = "may not be set for init containers without restartPolicy=Always";
    ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"]
        .iter()
        .filter(|name| at(container, &[name]).is_some())
        .map(|name| forbidden(format!("{field}.{name}"), DETAIL))
        .collect()
}

fn validate_name<'a>(field: &str, container: &'a Object, seen: &mut BTreeSet<&'a str>) -> Vec<FieldError> {
    let field = format!("{field}.name");
    let name = text(container, &["name"]);
    if name.is_empty() {
        return vec![required(field, "")];
    }
    let errors = all_invalid(&field, name, names::dns_label(name));
    if errors.is_empty() && !seen.insert(name) {
        return vec![duplicate(field, &Value::from(name))];
    }
    errors
}

fn validate_one(
    field: &str,
    container: &Object,
    surroundings: &Surroundings<'_>,
    host_ports: &mut BTreeSet<String>,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let image = text(container, &["image"]);
    if image.is_empty() {
        errors.push(required(format!("{field}.image"), ""));
    } else if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        errors.push(invalid(format!("{field}.image"), &Value::from(image), detail));
    }
    for (name, known) in
        [("terminationMessagePolicy", &MESSAGE_POLICIES[..]), ("imagePullPolicy", &PULL_POLICIES[..])]
    {
        let value = text(container, &[name]);
        if !known.contains(&value) {
            errors.push(super::choice(&format!("{field}.{name}"), value, known));
        }
    }
    errors.extend(validate_ports(&format!("{field}.ports"), container, surroundings, host_ports));
    errors.extend(env::validate(field, container));
    errors.extend(validate_mounts(&format!("{field}.volumeMounts"), container, surroundings));
    errors.extend(probe::validate_all(field, container, surroundings.grace_seconds));
    errors.extend(resources::validate(&format!("{field}.resources"), container));
    errors.extend(security::validate_container(&format!("{field}.securityContext"), container));
    errors
}

fn validate_ports(
    field: &str,
    container: &Object,
    surroundings: &Surroundings<'_>,
    host_ports: &mut BTreeSet<String>,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, port) in objects(container, &["ports"]).enumerate() {
        let field = format!("{field}[{index}]");
        let name = text(port, &["name"]);
        if !name.is_empty() {
            let findings = all_invalid(&format!("{field}.name"), name, names::port_name(name));
            if findings.is_empty() && !seen.insert(name) {
                errors.push(duplicate(format!("{field}.name"), &Value::from(name)));
            }
            errors.extend(findings);
        }
        let number = integer(port, &["containerPort"]).unwrap_or_default();
        if number == 0 {
            errors.push(required(format!("{field}.containerPort"), ""));
        } else {
            errors.extend(number_findings(&format!("{field}.containerPort"), number));
        }
        let protocol = text(port, &["protocol"]);
        if !PROTOCOLS.contains(&protocol) {
            errors.push(super::choice(&format!("{field}.protocol"), protocol, &PROTOCOLS));
        }
        let Some(host_port) = integer(port, &["hostPort"]).filter(|number| *number != 0) else { continue };
        let field = format!("{field}.hostPort");
        errors.extend(number_findings(&field, host_port));
        if surroundings.host_network && host_port != number {
            let detail = "must match `containerPort` when `hostNetwork` is true";
            errors.push(invalid(&field, &Value::from(host_port), detail));
        }
        let key = format!("{protocol}/{}/{host_port}", text(port, &["hostIP"]));
        if !host_ports.insert(key.clone()) {
            errors.push(duplicate(field, &Value::from(key)));
        }
    }
    errors
}

fn number_findings(field: &str, number: i64) -> Vec<FieldError> {
    names::port_number(number).iter().map(|detail| invalid(field, &Value::from(number), detail)).collect()
}

fn validate_mounts(field: &str, container: &Object, surroundings: &Surroundings<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut paths = BTreeSet::new();
    for (index, mount) in objects(container, &["volumeMounts"]).enumerate() {
        let item = format!("{field}[{index}]");
        let (name, path) = (text(mount, &["name"]), text(mount, &["mountPath"]));
        if name.is_empty() {
            errors.push(required(format!("{item}.name"), ""));
        }
        if !surroundings.volumes.contains(name) {
            errors.push(not_found(format!("{item}.name"), &Value::from(name)));
        }
        if path.is_empty() {
            errors.push(required(format!("{item}.mountPath"), ""));
        } else if !paths.insert(path) {
            errors.push(invalid(format!("{item}.mountPath"), &Value::from(path), "must be unique"));
        }
        let sub_path = text(mount, &["subPath"]);
        // Upstream leaves the item's position out of these paths.
        let sub_field = format!("{field}.subPath");
        if sub_path.starts_with('/') {
            errors.push(invalid(&sub_field, &Value::from(sub_path), "must be a relative path"));
        }
        if sub_path.split('/').any(|part| part == "..") {
            errors.push(invalid(&sub_field, &Value::from(sub_path), "must not contain '..'"));
        }
        let propagation = text(mount, &["mountPropagation"]);
        if !matches!(propagation, "" | "None" | "HostToContainer" | "Bidirectional") {
            let known = ["Bidirectional", "HostToContainer", "None"];
            errors.push(not_supported(format!("{field}.mountPropagation"), propagation, &known));
        } else if propagation == "Bidirectional" && !is_true(container, &["securityContext", "privileged"]) {
            let detail = "Bidirectional mount propagation is available only to privileged containers";
            errors.push(forbidden(format!("{field}.mountPropagation"), detail));
        }
    }
    errors
}
