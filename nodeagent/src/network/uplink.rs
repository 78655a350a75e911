//! The node's own address: where other machines, and the API server, find it.

use std::net::Ipv4Addr;

use serde_json::Value;

use crate::network::{Netns, NetworkError, tool};

/// The device that leads out of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    pub device: String,
    /// The node's address.
    pub address: Ipv4Addr,
    /// Largest packet the device takes; pod links use the same.
    pub mtu: u32,
}

/// Finds the device of the default route, or else the first device with an address that others can reach.
///
/// # Errors
/// `NoAddress` when there is only loopback.
pub async fn uplink(netns: &Netns) -> Result<Uplink, NetworkError> {
    netns
        .try_run(|| {
            let routes = tool::ip_json(&["-json", "-4", "route", "show", "default"])?;
            let devices = tool::ip_json(&["-json", "-4", "address", "show", "up"])?;
            choose(&routes, &devices).ok_or(NetworkError::NoAddress)
        })
        .await
}

fn choose(routes: &[Value], devices: &[Value]) -> Option<Uplink> {
    let default_device = routes.iter().find_map(|route| route.get("dev")?.as_str());
    let mut links: Vec<Uplink> = devices.iter().filter_map(describe).collect();
    links.retain(|link| !is_cluster_link(&link.device));
    let at = links.iter().position(|link| Some(link.device.as_str()) == default_device).unwrap_or(0);
    (at < links.len()).then(|| links.swap_remove(at))
}

/// Returns whether a device is a link of some cluster of ours (`network::names`): these lead to pods and nodes.
fn is_cluster_link(name: &str) -> bool {
    let id = name.strip_prefix("kn").or_else(|| name.strip_prefix('k')).and_then(|rest| rest.get(..8));
    id.is_some_and(|id| id.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

fn describe(device: &Value) -> Option<Uplink> {
    let is_global = |info: &&Value| {
        info.get("family").and_then(Value::as_str) == Some("inet")
            && info.get("scope").and_then(Value::as_str) == Some("global")
    };
    let address = device.get("addr_info")?.as_array()?.iter().find(is_global)?;
    Some(Uplink {
        device: device.get("ifname")?.as_str()?.to_owned(),
        address: address.get("local")?.as_str()?.parse().ok()?,
        mtu: u32::try_from(device.get("mtu")?.as_u64()?).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn device(name: &str, address: &str, scope: &str) -> Value {
        json!({"ifname": name, "mtu": 1400, "addr_info": [{"family": "inet", "local": address, "scope": scope}]})
    }

    #[test]
    fn the_default_routes_device_wins() {
        let devices = [device("eth0", "192.0.2.2", "global"), device("eth1", "198.51.100.2", "global")];
        let found = choose(&[json!({"dst": "default", "dev": "eth1"})], &devices).unwrap();
        assert_eq!((found.device.as_str(), found.mtu), ("eth1", 1400));
        assert_eq!(choose(&[], &devices).unwrap().device, "eth0");
    }

    #[test]
    fn loopback_and_cluster_links_are_no_uplink() {
        assert_eq!(choose(&[], &[device("lo", "127.0.0.1", "host")]), None);
        assert_eq!(choose(&[], &[device("kndeadbeef0", "100.64.0.1", "global")]), None);
        assert_eq!(choose(&[], &[device("kdeadbeeff40107", "10.244.1.1", "global")]), None);
    }
}
