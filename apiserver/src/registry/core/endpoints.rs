//! Endpoints: the older list of a service's addresses.

use proto::api::names;
use serde_json::Value;

use super::super::table::{AGE, NAME, NONE, age, column, name, some_of};
use super::super::validation::address::endpoint_ip;
use super::super::validation::field::{all_invalid, invalid, not_supported, required};
use super::super::validation::metadata::{self, NameRule};
use super::super::value::{at, integer, objects, objects_mut, set_default_text, text};
use super::super::{Column, Context, FieldError, Object, Part, Strategy};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
/// Addresses shown in a row.
const SHOWN_MAX: usize = 3;

/// The strategy of Endpoints.
pub(in crate::registry) struct Endpoints;

impl Strategy for Endpoints {
    fn default(&self, object: &mut Object) {
        for subset in objects_mut(object, "subsets") {
            for port in objects_mut(subset, "ports") {
                set_default_text(port, "protocol", "TCP");
            }
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, _object: &mut Object) {}

    fn prepare_update(&self, _context: &Context<'_>, _part: Part, _object: &mut Object, _old: &Object) {}

    fn validate(&self, object: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate(object, NameRule::Subdomain);
        errors.extend(validate_subsets(object));
        errors
    }

    fn validate_update(&self, _part: Part, object: &Object, old: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate_update(object, old);
        errors.extend(validate_subsets(object));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, column("Endpoints", "string", "Addresses and ports."), AGE];
        COLUMNS
    }

    fn row(&self, object: &Object, now: &str) -> Vec<Value> {
        let mut shown = Vec::new();
        for subset in objects(object, &["subsets"]) {
            let addresses: Vec<&str> =
                objects(subset, &["addresses"]).map(|address| text(address, &["ip"])).collect();
            let ports: Vec<i64> =
                objects(subset, &["ports"]).filter_map(|port| integer(port, &["port"])).collect();
            if ports.is_empty() {
                shown.extend(addresses.iter().map(|address| (*address).to_owned()));
            }
            for port in ports {
                shown.extend(addresses.iter().map(|address| format!("{address}:{port}")));
            }
        }
        vec![name(object), some_of(&shown, SHOWN_MAX, NONE), age(object, now)]
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }
}

fn validate_subsets(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, subset) in objects(object, &["subsets"]).enumerate() {
        let field = format!("subsets[{index}]");
        let lists = ["addresses", "notReadyAddresses"];
        if lists.iter().all(|list| at(subset, &[list]).is_none()) {
            errors.push(required(&field, "must specify `addresses` or `notReadyAddresses`"));
        }
        for list in lists {
            for (index, address) in objects(subset, &[list]).enumerate() {
                let field = format!("{field}.{list}[{index}]");
                let ip = text(address, &["ip"]);
                errors.extend(endpoint_ip(&format!("{field}.ip"), ip));
                let host = text(address, &["hostname"]);
                if !host.is_empty() {
                    errors.extend(all_invalid(&format!("{field}.hostname"), host, names::dns_label(host)));
                }
            }
        }
        let ports = objects(subset, &["ports"]).count();
        for (index, port) in objects(subset, &["ports"]).enumerate() {
            let name = text(port, &["name"]);
            let name_field = format!("{field}.ports[{index}].name");
            if !name.is_empty() {
                errors.extend(all_invalid(&name_field, name, names::dns_label(name)));
            } else if ports > 1 {
                errors.push(required(name_field, ""));
            }
            let number = integer(port, &["port"]).unwrap_or_default();
            for detail in names::port_number(number) {
                errors.push(invalid(format!("{field}.ports[{index}].port"), &Value::from(number), &detail));
            }
            let protocol = text(port, &["protocol"]);
            if !PROTOCOLS.contains(&protocol) {
                errors.push(not_supported(format!("{field}.ports[{index}].protocol"), protocol, &PROTOCOLS));
            }
        }
    }
    errors
}
