//! Nodes: cluster scoped; their status comes with the first write.

use serde_json::{Value, json};

use super::super::table::{AGE, NAME, age, column, name, or_none, wide};
use super::super::validation::field::forbidden;
use super::super::validation::metadata::{self, NameRule};
use super::super::value::{at, carry_over, ensure, entries, is_true, objects, set_default, text};
use super::super::{Column, Context, FieldError, Object, Part, Strategy};

/// Fields of `status.nodeInfo` that are always there.
const NODE_INFO: [&str; 10] = [
    "machineID",
    "systemUUID",
    "bootID",
    "kernelVersion",
    "osImage",
    "containerRuntimeVersion",
    "kubeletVersion",
    "kubeProxyVersion",
    "operatingSystem",
    "architecture",
];

/// The strategy of Nodes.
pub(in crate::registry) struct Node;

impl Strategy for Node {
    fn default(&self, object: &mut Object) {
        let spec = ensure(object, "spec");
        let cidr = text(spec, &["podCIDR"]).to_owned();
        if !cidr.is_empty() {
            set_default(spec, "podCIDRs", json!([cidr]));
        }
        let status = ensure(object, "status");
        set_default(status, "daemonEndpoints", json!({"kubeletEndpoint": {"Port": 0}}));
        let info = ensure(status, "nodeInfo");
        for field in NODE_INFO {
            set_default(info, field, "");
        }
        if let Some(capacity) = status.get("capacity").cloned() {
            set_default(status, "allocatable", capacity);
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, _object: &mut Object) {}

    fn prepare_update(&self, _context: &Context<'_>, part: Part, object: &mut Object, old: &Object) {
        match part {
            Part::Main => carry_over(object, old, "status"),
            Part::Status => carry_over(object, old, "spec"),
        }
    }

    fn validate(&self, object: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate(object, NameRule::Subdomain);
        errors.extend(super::taints::validate(object));
        errors
    }

    fn validate_update(&self, _part: Part, object: &Object, old: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate_update(object, old);
        errors.extend(super::taints::validate(object));
        let text_changed = |field: &str| {
            let before = text(old, &["spec", field]);
            !before.is_empty() && before != text(object, &["spec", field])
        };
        let cidrs = at(old, &["spec", "podCIDRs"]);
        if cidrs.is_some() && cidrs != at(object, &["spec", "podCIDRs"]) {
            errors.push(forbidden(
                "spec.podCIDRs",
                "node updates may not change podCIDR except from \"\" to valid",
            ));
        }
        if text_changed("providerID") {
            errors.push(forbidden(
                "spec.providerID",
                "node updates may not change providerID except from \"\" to valid",
            ));
        }
        errors
    }

    fn selectable_fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        vec![("spec.unschedulable", is_true(object, &["spec", "unschedulable"]).to_string())]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Status", "string", "Whether the node is ready and takes pods."),
            column("Roles", "string", "Roles from the node's labels."),
            AGE,
            column("Version", "string", "Version of the node agent."),
            wide("Internal-IP", "Address inside the cluster."),
            wide("External-IP", "Address outside the cluster."),
            wide("OS-Image", "Operating system."),
            wide("Kernel-Version", "Kernel and architecture."),
            wide("Container-Runtime", "Container runtime and version."),
        ];
        COLUMNS
    }

    fn row(&self, object: &Object, now: &str) -> Vec<Value> {
        let info = |field: &str| text(object, &["status", "nodeInfo", field]);
        let or_unknown = |text: &str| Value::from(if text.is_empty() { "<unknown>" } else { text });
        let kernel = match (info("kernelVersion"), info("architecture")) {
            ("", _) => String::new(),
            (kernel, "") => kernel.to_owned(),
            (kernel, architecture) => format!("{kernel} ({architecture})"),
        };
        vec![
            name(object),
            Value::from(status(object)),
            or_none(&roles(object).join(",")),
            age(object, now),
            Value::from(info("kubeletVersion")),
            or_none(address(object, "InternalIP")),
            or_none(address(object, "ExternalIP")),
            or_unknown(info("osImage")),
            or_unknown(&kernel),
            or_unknown(info("containerRuntimeVersion")),
        ]
    }
}

fn status(node: &Object) -> String {
    let ready =
        objects(node, &["status", "conditions"]).find(|condition| text(condition, &["type"]) == "Ready");
    let word = match ready.map(|condition| text(condition, &["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let suffix = if is_true(node, &["spec", "unschedulable"]) { ",SchedulingDisabled" } else { "" };
    format!("{word}{suffix}")
}

fn roles(node: &Object) -> Vec<String> {
    let role = |(key, value): (&String, &Value)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) if !role.is_empty() => Some(role.to_owned()),
        _ if key == "kubernetes.io/role" => value.as_str().filter(|role| !role.is_empty()).map(str::to_owned),
        _ => None,
    };
    let mut roles: Vec<String> = entries(node, &["metadata", "labels"]).filter_map(role).collect();
    roles.sort();
    roles.dedup();
    roles
}

fn address<'a>(node: &'a Object, kind: &str) -> &'a str {
    objects(node, &["status", "addresses"])
        .find(|address| text(address, &["type"]) == kind)
        .map_or("", |address| text(address, &["address"]))
}
