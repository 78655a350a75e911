//! The fixed part of the table: declarations, hooks, and one chain per number of endpoints. Pure.

use std::net::Ipv4Addr;

use crate::network::Ipv4Net;
use crate::nft::{Chain, Declaration, Rows};

/// service address . protocol . port → chain for its number of endpoints.
pub(super) const SERVICES: &str = "svcs";
/// service address . protocol . port . slot → endpoint.
pub(super) const ENDPOINTS: &str = "eps";
/// protocol . node port → chain for its number of endpoints.
pub(super) const NODE_PORTS: &str = "nports";
/// protocol . node port . slot → endpoint.
pub(super) const NODE_PORT_ENDPOINTS: &str = "neps";
/// pod . pod, for each pod of this node: what reaches itself through a service needs another source address.
const HAIRPIN: &str = "hairpin";
/// Addresses inside the service range that this node answers itself.
const LOCAL: &str = "locals";
/// Set on packets whose source address must stay (`externalTrafficPolicy: Local`).
const KEEP_SOURCE_MARK: &str = "0x4b000000";
/// Widest pod range of a node whose addresses are listed one by one.
const HAIRPIN_PREFIX_LEN_MIN: u8 = 20;

/// Which namespace the rules are for.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The node that lives in the namespace, and its pods' range. `None` where no node lives: the machine's own
    /// namespace when all agents have namespaces of their own.
    pub node: Option<(String, Ipv4Net)>,
    /// The pods of all nodes.
    pub pod_range: Ipv4Net,
    pub service_range: Ipv4Net,
    /// The cluster DNS address, when this node answers it itself.
    pub dns: Option<Ipv4Addr>,
}

/// How a chain picks among endpoints and what else it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pick {
    /// Any endpoint.
    Random,
    /// The same endpoint for the same client, while the endpoints stay the same.
    Sticky,
    /// As `Random`, for node ports.
    NodePort,
    /// As `Sticky`, for node ports.
    NodePortSticky,
    /// As `NodePort`, and the client's address stays visible.
    NodePortKeepSource,
}

impl Pick {
    /// Returns the name of the chain for a number of endpoints.
    pub(super) fn chain_name(self, count: usize) -> String {
        let prefix = match self {
            Self::Random => "lb",
            Self::Sticky => "lbs",
            Self::NodePort => "np",
            Self::NodePortSticky => "nps",
            Self::NodePortKeepSource => "npk",
        };
        format!("{prefix}-{count}")
    }

    /// Returns the chain for a number of endpoints.
    pub(super) fn chain(self, count: usize) -> Chain {
        let draw = match self {
            Self::Random | Self::NodePort | Self::NodePortKeepSource => format!("numgen random mod {count}"),
            Self::Sticky | Self::NodePortSticky => format!("jhash ip saddr mod {count}"),
        };
        let (key, map) = match self {
            Self::Random | Self::Sticky => ("ip daddr . meta l4proto . th dport", ENDPOINTS),
            Self::NodePort | Self::NodePortSticky | Self::NodePortKeepSource => {
                ("meta l4proto . th dport", NODE_PORT_ENDPOINTS)
            }
        };
        let mark = matches!(self, Self::NodePortKeepSource)
            .then(|| format!("meta mark set meta mark | {KEEP_SOURCE_MARK}"));
        let dnat = format!("dnat ip to {key} . {draw} map @{map}");
        Chain {
            name: self.chain_name(count),
            hook: None,
            rules: mark.into_iter().chain(std::iter::once(dnat)).collect(),
        }
    }
}

/// Returns the sets and maps.
pub(super) fn declarations() -> Vec<Declaration> {
    let declaration = |kind, name, type_clause| Declaration { kind, name, type_clause };
    vec![
        declaration("map", SERVICES, "type ipv4_addr . inet_proto . inet_service : verdict"),
        declaration(
            "map",
            ENDPOINTS,
            "typeof ip daddr . meta l4proto . th dport . numgen random mod 65535 : ip daddr . th dport",
        ),
        declaration("map", NODE_PORTS, "type inet_proto . inet_service : verdict"),
        declaration(
            "map",
            NODE_PORT_ENDPOINTS,
            "typeof meta l4proto . th dport . numgen random mod 65535 : ip daddr . th dport",
        ),
        declaration("set", HAIRPIN, "type ipv4_addr . ipv4_addr"),
        declaration("set", LOCAL, "type ipv4_addr . inet_proto . inet_service"),
    ]
}

/// Returns the chains that do not depend on services.
pub(super) fn chains(scope: &Scope) -> Vec<Chain> {
    let services = scope.service_range;
    let hooked = |name: &str, hook, rules| Chain { name: name.to_owned(), hook: Some(hook), rules };
    let jump = |chain: &str| vec![format!("jump {chain}")];
    vec![
        Chain {
            name: "services".to_owned(),
            hook: None,
            rules: vec![
                format!("ip daddr . meta l4proto . th dport vmap @{SERVICES}"),
                // The service range is local too; loopback cannot be rewritten to leave the host.
                format!("ip daddr {{ {services}, 127.0.0.0/8 }} return"),
                format!("fib daddr type local meta l4proto . th dport vmap @{NODE_PORTS}"),
            ],
        },
        Chain {
            name: "refuse".to_owned(),
            hook: None,
            // What reaches the filter hooks with a service address was not rewritten: no such port, or nobody behind it.
            // A reset, because ICMP answers are rate-limited by the kernel.
            rules: vec![
                "ct direction reply return".to_owned(),
                format!("ip daddr != {services} return"),
                format!("ip daddr . meta l4proto . th dport @{LOCAL} return"),
                "meta l4proto tcp reject with tcp reset".to_owned(),
                "reject with icmp port-unreachable".to_owned(),
            ],
        },
        hooked("prerouting", "type nat hook prerouting priority -100;", jump("services")),
        hooked("output", "type nat hook output priority -100;", jump("services")),
        hooked("postrouting", "type nat hook postrouting priority 100;", masquerade_rules(scope)),
        hooked("filter-input", "type filter hook input priority 0;", jump("refuse")),
        hooked("filter-forward", "type filter hook forward priority 0;", jump("refuse")),
        hooked("filter-output", "type filter hook output priority 0;", jump("refuse")),
    ]
}

/// Whose source address changes: replies must come back through the namespace that rewrote the destination.
fn masquerade_rules(scope: &Scope) -> Vec<String> {
    let cluster = scope.pod_range;
    let keep = format!("meta mark & {KEEP_SOURCE_MARK} == {KEEP_SOURCE_MARK} return");
    let mut rules = vec![format!("ct status dnat ip saddr . ip daddr @{HAIRPIN} masquerade"), keep];
    match &scope.node {
        // A pod's own node rewrites its traffic and sees the replies; anyone else's replies might go another way.
        Some((_, own)) => rules.push(format!("ct status dnat ip saddr != {own} masquerade")),
        None => rules.push("ct status dnat masquerade".to_owned()),
    }
    if let Some((_, own)) = &scope.node {
        rules.push(format!("ip saddr {own} ip daddr != {cluster} masquerade"));
    }
    rules
}

/// Returns the rows that do not depend on services.
pub(super) fn rows(scope: &Scope) -> Rows {
    let mut rows = Rows::default();
    if let Some((_, own)) = &scope.node
        && own.prefix_len() >= HAIRPIN_PREFIX_LEN_MIN
    {
        own.hosts().for_each(|pod| rows.member(HAIRPIN, format!("{pod} . {pod}")));
    }
    for protocol in scope.dns.iter().flat_map(|_| ["tcp", "udp"]) {
        let address = scope.dns.map(|address| address.to_string()).unwrap_or_default();
        rows.member(LOCAL, format!("{address} . {protocol} . 53"));
    }
    rows
}
