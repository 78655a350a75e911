//! Services: a stable address for pods. Addresses and node ports are allocated inside the commit, not here.

use serde_json::{Value, json};

use super::super::table::{AGE, NAME, NONE, age, column, labels, name, or_none, wide};
use super::super::value::{
    at, carry_over, ensure, integer, list, objects, objects_mut, set_default, set_default_text, text,
};
use super::super::{Column, Context, FieldError, Object, Part, Strategy};
use super::service_validation;

/// Session affinity lasts this long when nothing else is said.
const AFFINITY_SECONDS: i64 = 10_800;

/// The strategy of Services.
pub(in crate::registry) struct Service;

impl Strategy for Service {
    fn default(&self, object: &mut Object) {
        let spec = ensure(object, "spec");
        set_default_text(spec, "sessionAffinity", "None");
        set_default_text(spec, "type", "ClusterIP");
        let kind = text(spec, &["type"]).to_owned();
        for port in objects_mut(spec, "ports") {
            set_default_text(port, "protocol", "TCP");
            let number = port.get("port").cloned().unwrap_or(Value::Null);
            let target = port.get("targetPort");
            if target.is_none_or(|target| target.is_null() || target == 0 || target == "") {
                port.insert("targetPort".to_owned(), number);
            }
        }
        if text(spec, &["sessionAffinity"]) == "ClientIP" {
            let config = ensure(ensure(spec, "sessionAffinityConfig"), "clientIP");
            set_default(config, "timeoutSeconds", AFFINITY_SECONDS);
        }
        let external =
            matches!(kind.as_str(), "NodePort" | "LoadBalancer") || !list(spec, &["externalIPs"]).is_empty();
        if external && kind != "ExternalName" {
            set_default_text(spec, "externalTrafficPolicy", "Cluster");
        }
        if kind != "ExternalName" {
            set_default_text(spec, "internalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            set_default(spec, "allocateLoadBalancerNodePorts", true);
        }
        align_cluster_ips(spec);
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Object) {
        let spec = ensure(object, "spec");
        default_families(spec);
        object.insert("status".to_owned(), json!({"loadBalancer": {}}));
    }

    fn prepare_update(&self, _context: &Context<'_>, part: Part, object: &mut Object, old: &Object) {
        match part {
            Part::Main => {
                carry_over(object, old, "status");
                keep_allocated(object, old);
                default_families(ensure(object, "spec"));
            }
            Part::Status => carry_over(object, old, "spec"),
        }
    }

    fn validate(&self, object: &Object) -> Vec<FieldError> {
        service_validation::validate(object)
    }

    fn validate_update(&self, part: Part, object: &Object, old: &Object) -> Vec<FieldError> {
        service_validation::validate_update(part, object, old)
    }

    fn selectable_fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        vec![
            ("spec.clusterIP", text(object, &["spec", "clusterIP"]).to_owned()),
            ("spec.type", text(object, &["spec", "type"]).to_owned()),
        ]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Type", "string", "How the service is reached."),
            column("Cluster-IP", "string", "Address inside the cluster."),
            column("External-IP", "string", "Addresses outside the cluster."),
            column("Port(s)", "string", "Ports, node ports and protocols."),
            AGE,
            wide("Selector", "Labels of the pods behind it."),
        ];
        COLUMNS
    }

    fn row(&self, object: &Object, now: &str) -> Vec<Value> {
        vec![
            name(object),
            Value::from(text(object, &["spec", "type"])),
            or_none(text(object, &["spec", "clusterIP"])),
            Value::from(external_ip(object)),
            or_none(&ports(object).join(",")),
            age(object, now),
            labels(object, &["spec", "selector"]),
        ]
    }
}

/// `clusterIPs` begins with `clusterIP`; the other way round the user has to say both.
fn align_cluster_ips(spec: &mut Object) {
    let first = text(spec, &["clusterIP"]).to_owned();
    if !first.is_empty() {
        set_default(spec, "clusterIPs", json!([first]));
    }
}

/// Address families of a cluster that has only IPv4.
fn default_families(spec: &mut Object) {
    if text(spec, &["type"]) == "ExternalName" {
        return;
    }
    let headless = text(spec, &["clusterIP"]) == "None";
    let without_selector = at(spec, &["selector"]).is_none();
    if headless && without_selector {
        // The endpoints are the user's own, so they may be of either family.
        set_default_text(spec, "ipFamilyPolicy", "RequireDualStack");
    } else {
        set_default_text(spec, "ipFamilyPolicy", "SingleStack");
    }
    let dual = text(spec, &["ipFamilyPolicy"]) == "RequireDualStack";
    set_default(spec, "ipFamilies", if dual { json!(["IPv4", "IPv6"]) } else { json!(["IPv4"]) });
}

/// A writer that leaves allocated values out means the ones that are there.
fn keep_allocated(object: &mut Object, old: &Object) {
    let Some(old) = old.get("spec").and_then(Value::as_object) else { return };
    let spec = ensure(object, "spec");
    let has_address = |spec: &Object| text(spec, &["type"]) != "ExternalName";
    if has_address(spec) && has_address(old) {
        let first = text(spec, &["clusterIP"]).to_owned();
        if !first.is_empty()
            && first != text(old, &["clusterIP"])
            && spec.get("clusterIPs") == old.get("clusterIPs")
        {
            // Only the older field was changed; the newer one follows.
            spec.insert("clusterIPs".to_owned(), json!([first]));
        }
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if at(spec, &[field]).is_none_or(|value| value == "")
                && let Some(value) = old.get(field)
            {
                spec.insert(field.to_owned(), value.clone());
            }
        }
    } else if !has_address(spec) && has_address(old) {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if spec.get(field) == old.get(field) {
                spec.remove(field);
            }
        }
    }
    if text(old, &["type"]) == "LoadBalancer" && text(spec, &["type"]) != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if spec.get(field) == old.get(field) {
                spec.remove(field);
            }
        }
    }
    let has_ports = |spec: &Object| matches!(text(spec, &["type"]), "NodePort" | "LoadBalancer");
    if has_ports(spec) && has_ports(old) {
        keep_node_ports(spec, old);
    } else if !has_ports(spec) && has_ports(old) {
        for port in objects_mut(spec, "ports") {
            let number = integer(port, &["nodePort"]);
            if objects(old, &["ports"]).any(|old| integer(old, &["nodePort"]) == number) {
                port.remove("nodePort");
            }
        }
        if spec.get("externalTrafficPolicy") == old.get("externalTrafficPolicy")
            && list(spec, &["externalIPs"]).is_empty()
        {
            spec.remove("externalTrafficPolicy");
        }
    }
}

fn keep_node_ports(spec: &mut Object, old: &Object) {
    let taken: Vec<i64> = objects(spec, &["ports"]).filter_map(|port| integer(port, &["nodePort"])).collect();
    for port in objects_mut(spec, "ports") {
        if integer(port, &["nodePort"]).unwrap_or_default() != 0 {
            continue;
        }
        let same = |old: &&Object| {
            text(old, &["protocol"]) == text(port, &["protocol"])
                && integer(old, &["port"]) == integer(port, &["port"])
        };
        let kept = objects(old, &["ports"]).find(same).and_then(|old| integer(old, &["nodePort"]));
        if let Some(number) = kept.filter(|number| !taken.contains(number)) {
            port.insert("nodePort".to_owned(), Value::from(number));
        }
    }
    if let Some(number) = old.get("healthCheckNodePort")
        && text(spec, &["externalTrafficPolicy"]) == "Local"
    {
        set_default(spec, "healthCheckNodePort", number.clone());
    }
}

fn external_ip(service: &Object) -> String {
    let addresses: Vec<&str> =
        list(service, &["spec", "externalIPs"]).iter().filter_map(Value::as_str).collect();
    let or = |text: String, none: &str| if text.is_empty() { none.to_owned() } else { text };
    match text(service, &["spec", "type"]) {
        "ExternalName" => or(text(service, &["spec", "externalName"]).to_owned(), NONE),
        "LoadBalancer" => {
            let ingress =
                objects(service, &["status", "loadBalancer", "ingress"]).map(|ingress| {
                    match text(ingress, &["ip"]) {
                        "" => text(ingress, &["hostname"]),
                        ip => ip,
                    }
                });
            let all: Vec<&str> = ingress.chain(addresses).collect();
            or(all.join(","), "<pending>")
        }
        _ => or(addresses.join(","), NONE),
    }
}

fn ports(service: &Object) -> Vec<String> {
    objects(service, &["spec", "ports"])
        .map(|port| {
            let (number, protocol) =
                (integer(port, &["port"]).unwrap_or_default(), text(port, &["protocol"]));
            match integer(port, &["nodePort"]).filter(|node_port| *node_port > 0) {
                Some(node_port) => format!("{number}:{node_port}/{protocol}"),
                None => format!("{number}/{protocol}"),
            }
        })
        .collect()
}
