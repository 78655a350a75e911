//! Fields that upstream fills in a pod's spec.

use std::collections::BTreeMap;

use proto::api::quantity::Quantity;
use serde_json::{Value, json};

use super::super::Object;
use super::super::value::{
    at, ensure, is_true, object, object_mut, objects, objects_mut, set_default, set_default_text, text,
};

/// Mode of projected files when nothing else is said (0644).
const FILE_MODE: i64 = 0o644;
/// Lifetime of projected tokens when nothing else is said.
const TOKEN_SECONDS: i64 = 3600;
/// Resources that a pod can have as a whole.
const POD_RESOURCES: [&str; 2] = ["cpu", "memory"];
const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Fills the template of a workload.
pub(in crate::registry) fn default_template(template: &mut Object) {
    ensure(template, "metadata");
    default_spec(ensure(template, "spec"));
}

/// Fills a pod's spec; what only Pods themselves get is not here.
pub(in crate::registry) fn default_spec(spec: &mut Object) {
    for (field, value) in
        [("dnsPolicy", "ClusterFirst"), ("restartPolicy", "Always"), ("schedulerName", "default-scheduler")]
    {
        set_default_text(spec, field, value);
    }
    set_default(spec, "terminationGracePeriodSeconds", 30);
    set_default(spec, "securityContext", json!({}));
    mirror_service_account(spec);
    let host_network = is_true(spec, &["hostNetwork"]);
    for list in CONTAINER_LISTS {
        for container in objects_mut(spec, list) {
            default_container(container);
            if host_network {
                for port in objects_mut(container, "ports") {
                    if let Some(number) = port.get("containerPort").cloned() {
                        set_default(port, "hostPort", number);
                    }
                }
            }
        }
    }
    for volume in objects_mut(spec, "volumes") {
        default_volume(volume);
    }
}

/// Fills requests from limits: of each container, and of the pod as a whole.
pub(in crate::registry) fn default_pod_resources(spec: &mut Object) {
    for list in CONTAINER_LISTS {
        for container in objects_mut(spec, list) {
            requests_from_limits(ensure(container, "resources"));
        }
    }
    if object(spec, &["resources"]).is_some() {
        let sums = container_requests(spec);
        let resources = ensure(spec, "resources");
        let limited: Vec<&str> =
            POD_RESOURCES.iter().copied().filter(|name| at(resources, &["limits", name]).is_some()).collect();
        for name in limited {
            if let Some(sum) = sums.get(name) {
                set_default(ensure(resources, "requests"), name, sum.to_string());
            }
        }
        requests_from_limits(resources);
    }
}

/// Returns what the containers ask for together.
fn container_requests(spec: &Object) -> BTreeMap<&'static str, Quantity> {
    let mut sums = BTreeMap::new();
    for container in objects(spec, &["containers"]) {
        for name in POD_RESOURCES {
            let amount = text(container, &["resources", "requests", name]).parse::<Quantity>();
            if let Ok(amount) = amount {
                let sum = sums.entry(name).or_insert(Quantity::ZERO);
                *sum = sum.plus(amount);
            }
        }
    }
    sums
}

fn requests_from_limits(resources: &mut Object) {
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else { return };
    let requests = ensure(resources, "requests");
    for (name, limit) in limits {
        set_default(requests, &name, limit);
    }
}

/// The deprecated field follows the new one, and fills it when only it is given.
fn mirror_service_account(spec: &mut Object) {
    let name = text(spec, &["serviceAccountName"]).to_owned();
    let name = if name.is_empty() { text(spec, &["serviceAccount"]).to_owned() } else { name };
    if !name.is_empty() {
        spec.insert("serviceAccountName".to_owned(), Value::from(name.as_str()));
        spec.insert("serviceAccount".to_owned(), Value::from(name));
    }
}

fn default_container(container: &mut Object) {
    let policy = pull_policy(text(container, &["image"]));
    set_default_text(container, "imagePullPolicy", policy);
    set_default_text(container, "terminationMessagePath", "/dev/termination-log");
    set_default_text(container, "terminationMessagePolicy", "File");
    ensure(container, "resources");
    for port in objects_mut(container, "ports") {
        set_default_text(port, "protocol", "TCP");
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = object_mut(container, probe) {
            default_probe(probe);
        }
    }
    if let Some(lifecycle) = object_mut(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(action) = object_mut(lifecycle, hook).and_then(|hook| object_mut(hook, "httpGet")) {
                default_http_get(action);
            }
        }
    }
    for variable in objects_mut(container, "env") {
        let Some(source) = object_mut(variable, "valueFrom") else { continue };
        if let Some(field) = object_mut(source, "fieldRef") {
            set_default_text(field, "apiVersion", "v1");
        }
        if let Some(field) = object_mut(source, "resourceFieldRef") {
            set_default(field, "divisor", "0");
        }
    }
}

fn default_probe(probe: &mut Object) {
    for (field, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if at(probe, &[field]).is_none_or(|given| given.as_i64() == Some(0)) {
            probe.insert(field.to_owned(), Value::from(value));
        }
    }
    if let Some(action) = object_mut(probe, "httpGet") {
        default_http_get(action);
    }
    if let Some(action) = object_mut(probe, "grpc") {
        set_default(action, "service", "");
    }
}

fn default_http_get(action: &mut Object) {
    set_default_text(action, "path", "/");
    set_default_text(action, "scheme", "HTTP");
}

/// `latest`, said or meant, is pulled always.
fn pull_policy(image: &str) -> &'static str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let has_digest = image.contains('@');
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
        None if has_digest => "IfNotPresent",
        None => "Always",
    }
}

fn default_volume(volume: &mut Object) {
    let has_source = volume.iter().any(|(field, value)| field != "name" && !value.is_null());
    if !has_source {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = object_mut(volume, source) {
            set_default(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(source) = object_mut(volume, "hostPath") {
        set_default(source, "type", "");
    }
    if let Some(source) = object_mut(volume, "downwardAPI") {
        default_downward(source);
    }
    if let Some(projected) = object_mut(volume, "projected") {
        for source in objects_mut(projected, "sources") {
            if let Some(token) = object_mut(source, "serviceAccountToken") {
                set_default(token, "expirationSeconds", TOKEN_SECONDS);
            }
            if let Some(downward) = object_mut(source, "downwardAPI") {
                default_downward(downward);
            }
        }
    }
    let reference = text(volume, &["image", "reference"]).to_owned();
    if let Some(image) = object_mut(volume, "image") {
        set_default_text(image, "pullPolicy", pull_policy(&reference));
    }
    if let Some(claim) =
        object_mut(volume, "ephemeral").and_then(|source| object_mut(source, "volumeClaimTemplate"))
    {
        ensure(claim, "metadata");
        set_default_text(ensure(claim, "spec"), "volumeMode", "Filesystem");
    }
}

fn default_downward(source: &mut Object) {
    for item in objects_mut(source, "items") {
        if let Some(field) = object_mut(item, "fieldRef") {
            set_default_text(field, "apiVersion", "v1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_latest_is_pulled_always() {
        for (image, expected) in [
            ("a", "Always"),
            ("a:latest", "Always"),
            ("a:v1", "IfNotPresent"),
            ("registry.example.com:5000/a", "Always"),
            ("registry.example.com:5000/a:1", "IfNotPresent"),
            ("a@sha256:00", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), expected, "{image}");
        }
    }
}
