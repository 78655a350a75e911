//! Checks of addresses that traffic is sent to.

use std::net::IpAddr;

use proto::api::names;
use serde_json::Value;

use super::super::FieldError;
use super::field::{all_invalid, invalid};

/// Checks the address of an endpoint: it must be one that a pod or host can have.
pub fn endpoint_ip(field: &str, address: &str) -> Vec<FieldError> {
    let Ok(ip) = address.parse::<IpAddr>() else {
        return all_invalid(field, address, names::ip_address(address));
    };
    let link_local_multicast = match ip {
        IpAddr::V4(ip) => ip.octets().starts_with(&[224, 0, 0]),
        IpAddr::V6(ip) => ip.octets().starts_with(&[0xff, 0x02]),
    };
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let mut details = Vec::new();
    if ip.is_unspecified() {
        details.push(format!("may not be unspecified ({address})"));
    }
    if ip.is_loopback() {
        details.push("may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned());
    }
    if link_local {
        details.push("may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned());
    }
    if link_local_multicast {
        details.push("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned());
    }
    details.iter().map(|detail| invalid(field, &Value::from(address), detail)).collect()
}
