//! From the servers' addresses to the objects that list them. Pure.
//!
//! All addresses of a subset or slice share its ports, so there is one for each distinct port. A slice is named by its
//! port: what other servers do never moves a server from one slice to another.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

/// Name of the service, its Endpoints and its first slice.
pub(super) const NAME: &str = "kubernetes";
pub(super) const NAMESPACE: &str = "default";
/// Name of the service's port, which its endpoints repeat.
pub(super) const PORT_NAME: &str = "https";
/// The label that names a slice's service.
pub(super) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The addresses that share a port and a slice.
type Groups = BTreeMap<(bool, u16), BTreeSet<IpAddr>>;

fn groups(servers: &BTreeSet<SocketAddr>) -> Groups {
    let mut groups = Groups::new();
    for server in servers {
        groups.entry((server.is_ipv6(), server.port())).or_default().insert(server.ip());
    }
    groups
}

fn ports(port: u16) -> Value {
    json!([{"name": PORT_NAME, "port": port, "protocol": "TCP"}])
}

/// Returns the Endpoints object.
pub(super) fn endpoints(servers: &BTreeSet<SocketAddr>) -> Value {
    let mut by_port: BTreeMap<u16, Vec<Value>> = BTreeMap::new();
    for ((_, port), addresses) in groups(servers) {
        let addresses = addresses.iter().map(|address| json!({"ip": address.to_string()}));
        by_port.entry(port).or_default().extend(addresses);
    }
    let subsets = by_port
        .into_iter()
        .map(|(port, addresses)| json!({"addresses": addresses, "ports": ports(port)}))
        .collect::<Value>();
    // The label: nobody else makes slices from it.
    let metadata = metadata(NAME, "endpointslice.kubernetes.io/skip-mirror", "true");
    json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets})
}

/// Returns the EndpointSlices by name. The one with the service's own target port has the service's name.
pub(super) fn slices(servers: &BTreeSet<SocketAddr>, target_port: u16) -> BTreeMap<String, Value> {
    let slice = |((is_ipv6, port), addresses): ((bool, u16), BTreeSet<IpAddr>)| {
        let (address_type, name) = match (is_ipv6, port == target_port) {
            (false, true) => ("IPv4", NAME.to_owned()),
            (false, false) => ("IPv4", format!("{NAME}-{port}")),
            (true, _) => ("IPv6", format!("{NAME}-ipv6-{port}")),
        };
        let endpoint =
            |address: &IpAddr| json!({"addresses": [address.to_string()], "conditions": {"ready": true}});
        let object = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata(&name, SERVICE_NAME_LABEL, NAME),
            "addressType": address_type,
            "endpoints": addresses.iter().map(endpoint).collect::<Value>(),
            "ports": ports(port),
        });
        (name, object)
    };
    groups(servers).into_iter().map(slice).collect()
}

fn metadata(name: &str, label: &str, value: &str) -> Value {
    json!({"name": name, "namespace": NAMESPACE, "labels": {label: value}})
}

/// Returns whether a slice's name is one that [`slices`] gives, so that slices of others are left alone.
pub(super) fn is_own_slice(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(NAME) else { return false };
    rest.is_empty()
        || rest.trim_start_matches("-ipv6").strip_prefix('-').is_some_and(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(list: &[&str]) -> BTreeSet<SocketAddr> {
        list.iter().map(|server| server.parse().unwrap()).collect()
    }

    /// `address:port` of every endpoint, by the name of its slice.
    fn check_slices(list: &[&str], target_port: u16, expected: &[(&str, &[&str])]) {
        let slices = slices(&servers(list), target_port);
        let found: Vec<(String, Vec<String>)> = slices
            .iter()
            .map(|(name, slice)| {
                let port = &slice["ports"][0]["port"];
                let endpoints = slice["endpoints"].as_array().unwrap().iter();
                let shown = endpoints
                    .map(|endpoint| format!("{}:{port}", endpoint["addresses"][0].as_str().unwrap()));
                (name.clone(), shown.collect())
            })
            .collect();
        let expected: Vec<(String, Vec<String>)> = expected
            .iter()
            .map(|(name, list)| ((*name).to_owned(), list.iter().map(|text| (*text).to_owned()).collect()))
            .collect();
        assert_eq!(found, expected);
        assert!(slices.keys().all(|name| is_own_slice(name)));
    }

    #[test]
    fn servers_of_one_port_share_a_slice_of_the_services_name() {
        check_slices(
            &["192.0.2.1:6443", "192.0.2.3:6443", "192.0.2.2:6443"],
            6443,
            &[("kubernetes", &["192.0.2.1:6443", "192.0.2.2:6443", "192.0.2.3:6443"])],
        );
    }

    #[test]
    fn servers_of_one_address_have_a_slice_for_each_port() {
        check_slices(
            &["192.0.2.1:6443", "192.0.2.1:6444", "192.0.2.1:6445"],
            6443,
            &[
                ("kubernetes", &["192.0.2.1:6443"]),
                ("kubernetes-6444", &["192.0.2.1:6444"]),
                ("kubernetes-6445", &["192.0.2.1:6445"]),
            ],
        );
        check_slices(
            &["192.0.2.1:6444", "192.0.2.1:6445"],
            6443,
            &[("kubernetes-6444", &["192.0.2.1:6444"]), ("kubernetes-6445", &["192.0.2.1:6445"])],
        );
    }

    #[test]
    fn each_address_family_has_its_own_slices() {
        check_slices(
            &["[2001:db8::1]:6443", "192.0.2.1:6443"],
            6443,
            &[("kubernetes", &["192.0.2.1:6443"]), ("kubernetes-ipv6-6443", &["2001:db8::1:6443"])],
        );
    }

    #[test]
    fn endpoints_have_a_subset_for_each_port() {
        let list = ["192.0.2.2:6443", "192.0.2.1:6443", "192.0.2.1:6444"];
        let port = |number: u16| json!([{"name": "https", "port": number, "protocol": "TCP"}]);
        let expected = json!([
            {"addresses": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}], "ports": port(6443)},
            {"addresses": [{"ip": "192.0.2.1"}], "ports": port(6444)},
        ]);
        assert_eq!(endpoints(&servers(&list))["subsets"], expected);
    }

    #[test]
    fn slices_of_others_are_not_ours() {
        for name in ["kubernetes-abc", "kubernetes-", "kubernetesx", "web-6443", "kubernetes-70000"] {
            assert!(!is_own_slice(name), "{name}");
        }
    }
}
