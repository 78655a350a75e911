//! Checks of Services. Whether an address or node port is free is decided where it is allocated.

use std::net::IpAddr;

use proto::api::names;
use serde_json::Value;

use super::super::validation::field::{all_invalid, duplicate, forbidden, invalid, not_supported, required};
use super::super::validation::metadata::{self, NameRule, labels};
use super::super::value::{at, integer, list, objects, text};
use super::super::{FieldError, Object, Part};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const POLICIES: [&str; 2] = ["Cluster", "Local"];
const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameZone", "PreferSameNode"];
/// Longest session affinity, a day.
const AFFINITY_SECONDS_MAX: i64 = 86_400;

/// Checks a new service.
pub(super) fn validate(object: &Object) -> Vec<FieldError> {
    let mut errors = metadata::validate(object, NameRule::Label);
    errors.extend(validate_spec(object));
    errors
}

/// Checks a change of a service.
pub(super) fn validate_update(part: Part, object: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = metadata::validate_update(object, old);
    if part == Part::Main {
        errors.extend(validate_cluster_ip_kept(object, old));
        errors.extend(validate_class_kept(object, old));
        errors.extend(validate_spec(object));
    }
    errors
}

/// An address stays for the life of a service, unless it becomes or was a name only.
fn validate_cluster_ip_kept(object: &Object, old: &Object) -> Option<FieldError> {
    let external = |service: &Object| text(service, &["spec", "type"]) == "ExternalName";
    let before = text(old, &["spec", "clusterIP"]);
    if external(object)
        || external(old)
        || before.is_empty()
        || text(object, &["spec", "clusterIP"]) == before
    {
        return None;
    }
    let addresses = Value::from(list(object, &["spec", "clusterIPs"]));
    Some(invalid("spec.clusterIPs[0]", &addresses, "may not change once set"))
}

/// The class says who made the load balancer, so it stays while there is one.
fn validate_class_kept(object: &Object, old: &Object) -> Option<FieldError> {
    let path = ["spec", "loadBalancerClass"];
    let balanced = |service: &Object| text(service, &["spec", "type"]) == "LoadBalancer";
    let changed = balanced(object) && balanced(old) && at(object, &path) != at(old, &path);
    changed.then(|| {
        invalid(
            "spec.loadBalancerClass",
            at(object, &path).unwrap_or(&Value::Null),
            "may not change once set",
        )
    })
}

fn validate_spec(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = |field: &'static str| text(object, &["spec", field]);
    let (kind, headless) = (spec("type"), spec("clusterIP") == "None");
    let ports = list(object, &["spec", "ports"]);
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.push(required("spec.ports", ""));
    }
    if kind == "ExternalName" {
        errors.extend(validate_external_name(object));
    }
    errors.extend(validate_ports(object));
    errors.extend(labels(object, "spec.selector", &["spec", "selector"]));
    if !matches!(spec("sessionAffinity"), "None" | "ClientIP") {
        errors.push(not_supported("spec.sessionAffinity", spec("sessionAffinity"), &["ClientIP", "None"]));
    }
    if spec("sessionAffinity") == "ClientIP" {
        errors.extend(validate_affinity(object));
    }
    if !TYPES.contains(&kind) {
        errors.push(not_supported("spec.type", kind, &TYPES));
    }
    errors.extend(validate_addresses(object));
    errors.extend(validate_traffic(object));
    errors.extend(validate_load_balancer_fields(object));
    errors
}

fn validate_external_name(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if at(object, &["spec", "clusterIPs"]).is_some() || !text(object, &["spec", "clusterIP"]).is_empty() {
        errors.push(forbidden("spec.clusterIPs", "may not be set for ExternalName services"));
    }
    let name = text(object, &["spec", "externalName"]);
    if name.is_empty() {
        errors.push(required("spec.externalName", ""));
    } else {
        let name = name.strip_suffix('.').unwrap_or(name);
        errors.extend(all_invalid("spec.externalName", name, names::dns_subdomain(name)));
    }
    errors
}

fn validate_ports(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let ports: Vec<&Object> = objects(object, &["spec", "ports"]).collect();
    let (mut seen_names, mut seen_numbers) = (Vec::new(), Vec::new());
    let exposes = matches!(text(object, &["spec", "type"]), "NodePort" | "LoadBalancer");
    for (index, port) in ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        let name = text(port, &["name"]);
        if name.is_empty() {
            if ports.len() > 1 {
                errors.push(required(format!("{field}.name"), ""));
            }
        } else {
            errors.extend(all_invalid(&format!("{field}.name"), name, names::dns_label(name)));
            if seen_names.contains(&name) {
                errors.push(duplicate(format!("{field}.name"), &Value::from(name)));
            }
            seen_names.push(name);
        }
        let number = integer(port, &["port"]).unwrap_or_default();
        errors.extend(port_number(&format!("{field}.port"), number));
        let protocol = text(port, &["protocol"]);
        if protocol.is_empty() {
            errors.push(required(format!("{field}.protocol"), ""));
        } else if !PROTOCOLS.contains(&protocol) {
            errors.push(not_supported(format!("{field}.protocol"), protocol, &PROTOCOLS));
        }
        errors.extend(target_port(&format!("{field}.targetPort"), port));
        let application = text(port, &["appProtocol"]);
        if !application.is_empty() {
            let field = format!("{field}.appProtocol");
            errors.extend(all_invalid(&field, application, names::qualified_name(application)));
        }
        if !exposes && integer(port, &["nodePort"]).unwrap_or_default() != 0 {
            errors.push(forbidden(format!("{field}.nodePort"), "may not be used when `type` is 'ClusterIP'"));
        }
        if seen_numbers.contains(&(protocol, number)) {
            let key = serde_json::json!({
                "Name": "", "Protocol": protocol, "AppProtocol": null, "Port": number, "TargetPort": 0, "NodePort": 0,
            });
            errors.push(duplicate(&field, &key));
        }
        seen_numbers.push((protocol, number));
    }
    errors
}

fn port_number(field: &str, number: i64) -> Vec<FieldError> {
    names::port_number(number).iter().map(|detail| invalid(field, &Value::from(number), detail)).collect()
}

fn target_port(field: &str, port: &Object) -> Vec<FieldError> {
    match port.get("targetPort") {
        Some(Value::String(name)) => all_invalid(field, name, names::port_name(name)),
        Some(Value::Number(number)) => port_number(field, number.as_i64().unwrap_or_default()),
        // A missing port number makes the target missing too.
        _ => port_number(field, 0),
    }
}

fn validate_affinity(object: &Object) -> Option<FieldError> {
    const FIELD: &str = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
    let seconds =
        integer(object, &["spec", "sessionAffinityConfig", "clientIP", "timeoutSeconds"]).unwrap_or_default();
    let fits = (1..=AFFINITY_SECONDS_MAX).contains(&seconds);
    (!fits).then(|| {
        invalid(
            FIELD,
            &Value::from(seconds),
            &format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}"),
        )
    })
}

fn validate_addresses(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kind = text(object, &["spec", "type"]);
    let addresses = list(object, &["spec", "clusterIPs"]);
    let first = text(object, &["spec", "clusterIP"]);
    if kind != "ExternalName" && !first.is_empty() {
        if addresses.first().and_then(Value::as_str).is_some_and(|address| address != first) {
            errors.push(invalid(
                "spec.clusterIPs",
                &Value::from(addresses),
                "first value must match `clusterIP`",
            ));
        }
        if first == "None" && kind != "ClusterIP" {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.push(invalid("spec.clusterIPs[0]", &Value::from(first), &detail));
        } else if first != "None" {
            errors.extend(all_invalid("spec.clusterIPs[0]", first, names::ip_address(first)));
        }
    }
    if first.is_empty() && !addresses.is_empty() {
        let detail = "must be empty when `clusterIP` is not specified";
        errors.push(invalid("spec.clusterIPs", &Value::from(addresses), detail));
    }
    let of_family = |v4: bool| {
        let parsed =
            addresses.iter().filter_map(Value::as_str).filter_map(|address| address.parse::<IpAddr>().ok());
        parsed.filter(|ip| ip.is_ipv4() == v4).count()
    };
    if of_family(true) > 1 || of_family(false) > 1 {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(invalid("spec.clusterIPs", &Value::from(addresses), detail));
    }
    for (index, family) in list(object, &["spec", "ipFamilies"]).iter().filter_map(Value::as_str).enumerate()
    {
        let field = format!("spec.ipFamilies[{index}]");
        if !matches!(family, "IPv4" | "IPv6") {
            errors.push(not_supported(field, family, &["IPv4", "IPv6"]));
        } else if family == "IPv6" && !(first == "None" && at(object, &["spec", "selector"]).is_none()) {
            if text(object, &["spec", "ipFamilyPolicy"]) == "RequireDualStack" {
                let detail = "this cluster is not configured for dual-stack services";
                errors.push(invalid("spec.ipFamilyPolicy", &Value::from("RequireDualStack"), detail));
            } else {
                errors.push(invalid(field, &Value::from(family), "not configured on this cluster"));
            }
        }
    }
    for (index, address) in
        list(object, &["spec", "externalIPs"]).iter().filter_map(Value::as_str).enumerate()
    {
        let field = format!("spec.externalIPs[{index}]");
        match address.parse::<IpAddr>() {
            Ok(ip) if ip.is_loopback() => errors.push(invalid(
                field,
                &Value::from(address),
                "may not be in the loopback range (127.0.0.0/8, ::1/128)",
            )),
            Ok(_) => {}
            Err(_) => errors.extend(all_invalid(&field, address, names::ip_address(address))),
        }
    }
    errors
}

fn validate_traffic(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let external = text(object, &["spec", "externalTrafficPolicy"]);
    let exposed = matches!(text(object, &["spec", "type"]), "NodePort" | "LoadBalancer")
        || !list(object, &["spec", "externalIPs"]).is_empty();
    if !external.is_empty() && !exposed {
        let detail = "may only be set for externally-accessible services";
        errors.push(invalid("spec.externalTrafficPolicy", &Value::from(external), detail));
    } else if !external.is_empty() && !POLICIES.contains(&external) {
        errors.push(not_supported("spec.externalTrafficPolicy", external, &POLICIES));
    }
    let distribution = text(object, &["spec", "trafficDistribution"]);
    if !distribution.is_empty() && !DISTRIBUTIONS.contains(&distribution) {
        errors.push(not_supported("spec.trafficDistribution", distribution, &DISTRIBUTIONS));
    }
    let internal = text(object, &["spec", "internalTrafficPolicy"]);
    if !internal.is_empty() && !POLICIES.contains(&internal) {
        errors.push(not_supported("spec.internalTrafficPolicy", internal, &POLICIES));
    }
    errors
}

fn validate_load_balancer_fields(object: &Object) -> Vec<FieldError> {
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    let mut errors = Vec::new();
    let balanced = text(object, &["spec", "type"]) == "LoadBalancer";
    let has = |field: &str| at(object, &["spec", field]).is_some();
    if has("loadBalancerSourceRanges") && !balanced {
        errors.push(forbidden("spec.LoadBalancerSourceRanges", ONLY));
    }
    for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if has(field) && !balanced {
            errors.push(forbidden(format!("spec.{field}"), ONLY));
        }
    }
    let health = integer(object, &["spec", "healthCheckNodePort"]).unwrap_or_default();
    if health != 0 && !(balanced && text(object, &["spec", "externalTrafficPolicy"]) == "Local") {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(invalid("spec.healthCheckNodePort", &Value::from(health), detail));
    }
    errors
}
