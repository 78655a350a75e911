//! From services to rows: which elements each service needs, and what changes when a service does. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use crate::nft::{Batch, Rows, Table};
use crate::proxy::index::{Backend, ServiceIndex, ServiceKey};
use crate::proxy::rules::{self, Pick, Scope};
use crate::proxy::slots;

/// Most endpoints of one service port that get connections; the rest wait. Upstream warns above a thousand too.
const ENDPOINT_COUNT_MAX: usize = 1000;

/// What a packet is sent to: a service address, or a port of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Front {
    /// `None` for node ports.
    address: Option<Ipv4Addr>,
    protocol: Protocol,
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// The slots of one front and how they are drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Back {
    pick: Pick,
    slots: Vec<SocketAddrV4>,
}

#[derive(Debug, Default)]
struct ServiceState {
    fronts: BTreeMap<Front, Back>,
    rows: Rows,
}

/// The service rules of one namespace.
#[derive(Debug)]
pub(super) struct Model {
    scope: Scope,
    services: BTreeMap<ServiceKey, ServiceState>,
    table: Table,
    /// Chains that exist in the table, by what they draw and from how many. They are never removed: there are at most
    /// as many as distinct endpoint counts, and kernels before 6.2 refuse to drop a chain a map pointed to just now.
    chains: BTreeSet<(Pick, usize)>,
}

impl Model {
    /// Returns the rules without any service.
    pub(super) fn new(table_name: String, scope: Scope) -> Self {
        let table = Table {
            name: table_name,
            declarations: rules::declarations(),
            chains: rules::chains(&scope),
            rows: rules::rows(&scope),
        };
        Self { scope, services: BTreeMap::new(), table, chains: BTreeSet::new() }
    }

    /// Returns the whole table.
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// Brings these services up to date and returns the change.
    pub(super) fn update_all(&mut self, keys: &BTreeSet<ServiceKey>, index: &ServiceIndex) -> Batch {
        let mut batch = Batch::default();
        for key in keys {
            batch.then(self.update(key, index));
        }
        batch
    }

    fn update(&mut self, key: &ServiceKey, index: &ServiceIndex) -> Batch {
        let before = self.services.remove(key).unwrap_or_default();
        let fronts = index.service(key).map_or_else(BTreeMap::new, |service| {
            fronts(service, &index.backends(key), &self.scope, &before.fronts)
        });
        let rows = rows(&fronts);
        let mut batch = before.rows.diff(&rows);
        for back in fronts.values().filter(|back| !back.slots.is_empty()) {
            if self.chains.insert((back.pick, back.slots.len())) {
                batch.chains.push(back.pick.chain(back.slots.len()));
            }
        }
        self.table.rows.apply(&batch);
        self.table.chains.extend(batch.chains.iter().cloned());
        if !fronts.is_empty() {
            self.services.insert(key.clone(), ServiceState { fronts, rows });
        }
        batch
    }
}

/// Returns what a service answers on, with its endpoints in slots.
fn fronts(
    service: &Service,
    backends: &[Backend],
    scope: &Scope,
    before: &BTreeMap<Front, Back>,
) -> BTreeMap<Front, Back> {
    let Some(spec) = &service.spec else { return BTreeMap::new() };
    let mut fronts = BTreeMap::new();
    for port in spec.ports.iter().flatten() {
        let Some(protocol) = Protocol::of(port) else { continue };
        for (front, pick, is_local_only) in faces(spec, port, protocol, scope) {
            let wanted = targets(backends, port, is_local_only.then_some(scope).and_then(Scope::node_name));
            let present = before.get(&front).map_or(&[][..], |back| back.slots.as_slice());
            fronts.insert(front, Back { pick, slots: slots::assign(present, &wanted) });
        }
    }
    fronts
}

/// Returns the addresses of one port: how each draws, and whether it is for endpoints of this node only.
fn faces(
    spec: &ServiceSpec,
    port: &ServicePort,
    protocol: Protocol,
    scope: &Scope,
) -> Vec<(Front, Pick, bool)> {
    let is_local = |policy: &Option<String>| policy.as_deref() == Some("Local") && scope.node.is_some();
    let is_sticky = spec.session_affinity.as_deref() == Some("ClientIP");
    let mut faces = Vec::new();
    let address = spec.cluster_ip.as_deref().and_then(|text| text.parse().ok());
    if let (Some(address), Ok(number)) = (address, u16::try_from(port.port)) {
        let front = Front { address: Some(address), protocol, port: number };
        let pick = if is_sticky { Pick::Sticky } else { Pick::Random };
        faces.push((front, pick, is_local(&spec.internal_traffic_policy)));
    }
    let node_port = port.node_port.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
    if let Some(number) = node_port {
        let front = Front { address: None, protocol, port: number };
        let is_local_only = is_local(&spec.external_traffic_policy);
        let pick = match (is_local_only, is_sticky) {
            (true, _) => Pick::NodePortKeepSource,
            (false, true) => Pick::NodePortSticky,
            (false, false) => Pick::NodePort,
        };
        faces.push((front, pick, is_local_only));
    }
    faces
}

/// Returns where a port's connections go; slices name ports as the service does.
fn targets(backends: &[Backend], port: &ServicePort, only_node: Option<&str>) -> BTreeSet<SocketAddrV4> {
    let name = port.name.as_deref().unwrap_or_default();
    backends
        .iter()
        .filter(|backend| only_node.is_none() || backend.node.as_deref() == only_node)
        .filter_map(|backend| Some(SocketAddrV4::new(backend.address, *backend.ports.get(name)?)))
        .take(ENDPOINT_COUNT_MAX)
        .collect()
}

fn rows(fronts: &BTreeMap<Front, Back>) -> Rows {
    let mut rows = Rows::default();
    for (front, back) in fronts.iter().filter(|(_, back)| !back.slots.is_empty()) {
        let (service_map, endpoint_map) = match front.address {
            Some(_) => (rules::SERVICES, rules::ENDPOINTS),
            None => (rules::NODE_PORTS, rules::NODE_PORT_ENDPOINTS),
        };
        let key = front.key();
        rows.map(service_map, key.clone(), format!("goto {}", back.pick.chain_name(back.slots.len())));
        for (slot, endpoint) in back.slots.iter().enumerate() {
            let value = format!("{} . {}", endpoint.ip(), endpoint.port());
            rows.map(endpoint_map, format!("{key} . {slot}"), value);
        }
    }
    rows
}

impl Front {
    fn key(&self) -> String {
        let (protocol, port) = (self.protocol.name(), self.port);
        match self.address {
            Some(address) => format!("{address} . {protocol} . {port}"),
            None => format!("{protocol} . {port}"),
        }
    }
}

impl Protocol {
    /// Returns the port's protocol; TCP when it names none, nothing when it is unknown.
    fn of(port: &ServicePort) -> Option<Self> {
        match port.protocol.as_deref().unwrap_or("TCP") {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl Scope {
    fn node_name(&self) -> Option<&str> {
        self.node.as_ref().map(|(name, _)| name.as_str())
    }
}
