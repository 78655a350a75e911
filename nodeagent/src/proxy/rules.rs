//! The fixed part of the table: declarations, hooks, and one chain per number of endpoints. Pure.

use std::net::Ipv4Addr;

use crate::network::Ipv4Net;
use crate::nft::{Chain, Declaration, Rows};

/// service address . protocol . port → chain for its number of endpoints.
pub(super) const SERVICES: &str = "svcs";
/// protocol . node port → chain for its number of endpoints.
pub(super) const NODE_PORTS: &str = "nports";
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

/// A transport protocol of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    Tcp,
    Udp,
    Sctp,
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

/// A chain that sends a packet to one of `count` endpoints, whatever the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Balancer {
    pub(super) pick: Pick,
    pub(super) protocol: Protocol,
    pub(super) count: usize,
}

impl Protocol {
    const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// Returns the map from service address . port . slot to the endpoint.
    pub(super) fn endpoints(self) -> &'static str {
        match self {
            Self::Tcp => "eps-tcp",
            Self::Udp => "eps-udp",
            Self::Sctp => "eps-sctp",
        }
    }

    /// Returns the map from node port . slot to the endpoint.
    pub(super) fn node_port_endpoints(self) -> &'static str {
        match self {
            Self::Tcp => "neps-tcp",
            Self::Udp => "neps-udp",
            Self::Sctp => "neps-sctp",
        }
    }
}

impl Balancer {
    /// Returns the chain's name.
    pub(super) fn name(self) -> String {
        let prefix = match self.pick {
            Pick::Random => "lb",
            Pick::Sticky => "lbs",
            Pick::NodePort => "np",
            Pick::NodePortSticky => "nps",
            Pick::NodePortKeepSource => "npk",
        };
        format!("{prefix}-{}-{}", self.protocol.name(), self.count)
    }

    /// Returns the chain.
    pub(super) fn chain(self) -> Chain {
        let Self { pick, protocol, count } = self;
        let draw = match pick {
            Pick::Random | Pick::NodePort | Pick::NodePortKeepSource => format!("numgen random mod {count}"),
            Pick::Sticky | Pick::NodePortSticky => format!("jhash ip saddr mod {count}"),
        };
        let (address, map) = match pick {
            Pick::Random | Pick::Sticky => ("ip daddr . ", protocol.endpoints()),
            Pick::NodePort | Pick::NodePortSticky | Pick::NodePortKeepSource => {
                ("", protocol.node_port_endpoints())
            }
        };
        let mark = matches!(pick, Pick::NodePortKeepSource)
            .then(|| format!("meta mark set meta mark | {KEEP_SOURCE_MARK}"));
        let dnat = format!("dnat ip to {address}{} dport . {draw} map @{map}", protocol.name());
        Chain {
            name: self.name(),
            hook: None,
            rules: mark.into_iter().chain(std::iter::once(dnat)).collect(),
        }
    }
}

/// Returns the sets and maps.
///
/// A slot has no named type, so the maps of endpoints take theirs from expressions. Each is for one protocol: `nft` 1.0.6
/// refuses a rule that is added later when the map it reads back says `th dport` ("conflicting protocols").
pub(super) fn declarations() -> Vec<Declaration> {
    let declaration =
        |kind, name, type_clause: &str| Declaration { kind, name, type_clause: type_clause.to_owned() };
    let mut declarations = vec![
        declaration("map", SERVICES, "type ipv4_addr . inet_proto . inet_service : verdict"),
        declaration("map", NODE_PORTS, "type inet_proto . inet_service : verdict"),
        declaration("set", HAIRPIN, "type ipv4_addr . ipv4_addr"),
        declaration("set", LOCAL, "type ipv4_addr . inet_proto . inet_service"),
    ];
    for protocol in Protocol::ALL {
        let port = format!("{} dport", protocol.name());
        let slot_to_endpoint = format!("{port} . numgen random mod 65535 : ip daddr . {port}");
        let of_services = format!("typeof ip daddr . {slot_to_endpoint}");
        let of_node_ports = format!("typeof {slot_to_endpoint}");
        declarations.push(declaration("map", protocol.endpoints(), &of_services));
        declarations.push(declaration("map", protocol.node_port_endpoints(), &of_node_ports));
    }
    declarations
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
