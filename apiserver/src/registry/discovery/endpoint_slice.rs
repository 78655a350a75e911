//! EndpointSlices: a part of a service's addresses.

use std::net::IpAddr;

use proto::api::names;
use serde_json::{Value, json};

use super::super::table::{AGE, NAME, age, column, name, some_of};
use super::super::validation::address::endpoint_ip;
use super::super::validation::field::{
    all_invalid, duplicate, invalid, not_supported, required, too_many, unchanged,
};
use super::super::validation::metadata::{self, NameRule};
use super::super::value::{integer, list, objects, objects_mut, set_default, set_default_text, text};
use super::super::{Column, Context, FieldError, Object, Part, Strategy, generation};

/// Limits of upstream's API.
const ENDPOINTS_MAX: usize = 1000;
const PORTS_MAX: usize = 20_000;
const ADDRESSES_MAX: usize = 100;
/// Items shown in a row.
const SHOWN_MAX: usize = 3;
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const ADDRESS_TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];

/// The strategy of EndpointSlices.
pub(in crate::registry) struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn default(&self, object: &mut Object) {
        for port in objects_mut(object, "ports") {
            set_default(port, "name", "");
            set_default_text(port, "protocol", "TCP");
        }
        for endpoint in objects_mut(object, "endpoints") {
            set_default(endpoint, "conditions", json!({}));
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Object) {
        generation::start(object);
    }

    fn prepare_update(&self, _context: &Context<'_>, _part: Part, object: &mut Object, old: &Object) {
        generation::follow(
            object,
            old,
            &[&["addressType"], &["endpoints"], &["ports"], &["metadata", "labels"]],
        );
    }

    fn validate(&self, object: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate(object, NameRule::Subdomain);
        errors.extend(validate_content(object));
        errors
    }

    fn validate_update(&self, _part: Part, object: &Object, old: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate_update(object, old);
        errors.extend(validate_content(object));
        errors.extend(unchanged("addressType", object.get("addressType"), old.get("addressType")));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("AddressType", "string", "Kind of the addresses."),
            column("Ports", "string", "Ports of every endpoint."),
            column("Endpoints", "string", "Addresses."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Object, now: &str) -> Vec<Value> {
        let port = |port: &Object| {
            integer(port, &["port"]).map_or_else(|| "*".to_owned(), |number| number.to_string())
        };
        let ports: Vec<String> = objects(object, &["ports"]).map(port).collect();
        let addresses: Vec<String> = objects(object, &["endpoints"])
            .flat_map(|endpoint| list(endpoint, &["addresses"]))
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        vec![
            name(object),
            Value::from(text(object, &["addressType"])),
            some_of(&ports, SHOWN_MAX, "<unset>"),
            some_of(&addresses, SHOWN_MAX, "<unset>"),
            age(object, now),
        ]
    }
}

fn validate_content(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let address_type = text(object, &["addressType"]);
    if address_type.is_empty() {
        errors.push(required("addressType", ""));
    } else if !ADDRESS_TYPES.contains(&address_type) {
        errors.push(not_supported("addressType", address_type, &ADDRESS_TYPES));
    }
    for (field, max) in [("endpoints", ENDPOINTS_MAX), ("ports", PORTS_MAX)] {
        let count = list(object, &[field]).len();
        if count > max {
            errors.push(too_many(field, count, max));
        }
    }
    for (index, endpoint) in objects(object, &["endpoints"]).enumerate() {
        errors.extend(validate_addresses(&format!("endpoints[{index}].addresses"), endpoint, address_type));
        let node = text(endpoint, &["nodeName"]);
        if !node.is_empty() {
            errors.extend(all_invalid(
                &format!("endpoints[{index}].nodeName"),
                node,
                names::dns_subdomain(node),
            ));
        }
    }
    errors.extend(validate_ports(object));
    errors
}

fn validate_ports(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (index, port) in objects(object, &["ports"]).enumerate() {
        let field = format!("ports[{index}]");
        let name = text(port, &["name"]);
        if !name.is_empty() {
            errors.extend(all_invalid(&format!("{field}.name"), name, names::dns_label(name)));
        }
        if seen.contains(&name) {
            errors.push(duplicate(format!("{field}.name"), &Value::from(name)));
        }
        seen.push(name);
        let protocol = text(port, &["protocol"]);
        if !PROTOCOLS.contains(&protocol) {
            errors.push(not_supported(format!("{field}.protocol"), protocol, &PROTOCOLS));
        }
        let application = text(port, &["appProtocol"]);
        if !application.is_empty() {
            errors.extend(all_invalid(
                &format!("{field}.appProtocol"),
                application,
                names::qualified_name(application),
            ));
        }
    }
    errors
}

fn validate_addresses(field: &str, endpoint: &Object, address_type: &str) -> Vec<FieldError> {
    let addresses = list(endpoint, &["addresses"]);
    if addresses.is_empty() {
        return vec![required(field, "must contain at least 1 address")];
    }
    if addresses.len() > ADDRESSES_MAX {
        return vec![too_many(field, addresses.len(), ADDRESSES_MAX)];
    }
    let mut errors = Vec::new();
    for (index, address) in addresses.iter().filter_map(Value::as_str).enumerate() {
        let (list_field, field) = (field, format!("{field}[{index}]"));
        match (address_type, address.parse::<IpAddr>()) {
            ("IPv4" | "IPv6", Ok(ip)) => {
                if ip.is_ipv4() != (address_type == "IPv4") {
                    let detail = format!("must be an {address_type} address");
                    errors.push(invalid(list_field, &Value::from(address), &detail));
                }
                errors.extend(endpoint_ip(&field, address));
            }
            ("IPv4" | "IPv6", Err(_)) => {
                errors.extend(all_invalid(&field, address, names::ip_address(address)))
            }
            ("FQDN", _) => errors.extend(all_invalid(&field, address, names::dns_subdomain(address))),
            _ => {}
        }
    }
    errors
}
