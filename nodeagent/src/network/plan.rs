//! What is asked of the kernel for a pod, the ranges, and a node namespace: lines for `ip -batch`. Pure.

use std::net::Ipv4Addr;
use std::path::Path;

use crate::network::Ipv4Net;

/// Marks our routes (the `proto` column of `ip route`), so that removal touches nobody else's.
pub(super) const ROUTE_PROTOCOL: u8 = 75;
/// Behind every other route to the same range.
const CATCH_ALL_METRIC: u32 = u32::MAX;

/// A veth pair between a namespace that routes and one that hangs on it.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    /// Name on the routing side; the other side is `eth0`.
    pub(super) link: String,
    /// Address on the routing side, shared by all its pairs.
    pub(super) gateway: Ipv4Addr,
    /// Address on the far side.
    pub(super) address: Ipv4Addr,
    pub(super) mtu: u32,
}

impl Pair {
    /// Lines for the routing side: the pair, its gateway address, and the route to the far side.
    pub(super) fn near(&self, far_netns: &Path) -> Vec<String> {
        let Self { link, gateway, address, mtu } = self;
        vec![
            format!(
                "link add {link} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {}",
                far_netns.display()
            ),
            format!("address add {gateway}/32 dev {link}"),
            format!("link set {link} up"),
            format!("route replace {address}/32 dev {link} proto {ROUTE_PROTOCOL}"),
        ]
    }

    /// Lines for the far side: its address and the way out.
    pub(super) fn far(&self) -> Vec<String> {
        let Self { gateway, address, .. } = self;
        vec![
            "link set lo up".to_owned(),
            "link set eth0 up".to_owned(),
            format!("address add {address}/32 dev eth0"),
            format!("route replace {gateway}/32 dev eth0 scope link"),
            format!("route replace default via {gateway} dev eth0"),
        ]
    }
}

/// Lines for the catch-all routes. The service range is `local`: the output hook, where addresses are rewritten, runs only
/// for packets that have a route, and whatever no rule rewrites ends on this machine.
pub(super) fn catch_all(pod_range: Ipv4Net, service_range: Ipv4Net, source: Option<Ipv4Addr>) -> Vec<String> {
    let source = source.map(|address| format!(" src {address}")).unwrap_or_default();
    vec![
        format!("route replace unreachable {pod_range} metric {CATCH_ALL_METRIC} proto {ROUTE_PROTOCOL}"),
        format!("route replace local {service_range} dev lo table local proto {ROUTE_PROTOCOL}{source}"),
    ]
}

/// Returns what the routes in `ip`'s answer lead to; a single address stands there without its prefix length.
pub(super) fn routed(answer: &[serde_json::Value]) -> impl Iterator<Item = Ipv4Net> {
    let destinations = answer.iter().filter_map(|route| route.get("dst")?.as_str());
    destinations.filter_map(|destination| {
        destination.parse().ok().or_else(|| Some(Ipv4Net::new(destination.parse().ok()?, 32)))
    })
}

/// Lines that take our routes into these ranges away, routes to other nodes' pods included.
pub(super) fn remove_ranges(pod_range: Ipv4Net, service_range: Ipv4Net) -> Vec<String> {
    vec![
        format!("route flush root {pod_range} proto {ROUTE_PROTOCOL}"),
        format!("route flush table local root {service_range} proto {ROUTE_PROTOCOL}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_gets_a_routed_pair() {
        let pair = Pair {
            link: "kdeadbeef f40107".replace(' ', ""),
            gateway: "10.244.1.1".parse().unwrap(),
            address: "10.244.1.7".parse().unwrap(),
            mtu: 1400,
        };
        insta::assert_snapshot!(pair.near(Path::new("/run/ns/p")).join("\n"), @r"
        link add kdeadbeeff40107 mtu 1400 type veth peer name eth0 mtu 1400 netns /run/ns/p
        address add 10.244.1.1/32 dev kdeadbeeff40107
        link set kdeadbeeff40107 up
        route replace 10.244.1.7/32 dev kdeadbeeff40107 proto 75
        ");
        insta::assert_snapshot!(pair.far().join("\n"), @r"
        link set lo up
        link set eth0 up
        address add 10.244.1.7/32 dev eth0
        route replace 10.244.1.1/32 dev eth0 scope link
        route replace default via 10.244.1.1 dev eth0
        ");
    }

    #[test]
    fn ranges_end_on_this_machine() {
        let (pods, services) = ("10.244.0.0/16".parse().unwrap(), "10.96.0.0/16".parse().unwrap());
        insta::assert_snapshot!(catch_all(pods, services, Some("192.0.2.2".parse().unwrap())).join("\n"), @r"
        route replace unreachable 10.244.0.0/16 metric 4294967295 proto 75
        route replace local 10.96.0.0/16 dev lo table local proto 75 src 192.0.2.2
        ");
    }
}
