//! From services to rows: which elements each service needs, and what changes when a service does. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use crate::nft::{Batch, Rows, Table};
use crate::proxy::index::{Backend, ServiceIndex, ServiceKey};
use crate::proxy::rules::{self, Balancer, Pick, Protocol, Scope};
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
    /// Those whose chains exist in the table. They are never removed: there are at most a few per distinct number of
    /// endpoints, and kernels before 6.2 refuse to drop a chain a map pointed to just now.
    balancers: BTreeSet<Balancer>,
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
        Self { scope, services: BTreeMap::new(), table, balancers: BTreeSet::new() }
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
        for balancer in fronts.iter().filter_map(|(front, back)| front.balancer(back)) {
            if self.balancers.insert(balancer) {
                batch.chains.push(balancer.chain());
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
        let Some(protocol) = protocol(port) else { continue };
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
    for (front, back) in fronts {
        let Some(balancer) = front.balancer(back) else { continue };
        let Front { address, protocol, port } = front;
        let (service_map, endpoint_map, prefix) = match address {
            Some(address) => (rules::SERVICES, protocol.endpoints(), format!("{address} . ")),
            None => (rules::NODE_PORTS, protocol.node_port_endpoints(), String::new()),
        };
        let key = format!("{prefix}{} . {port}", protocol.name());
        rows.map(service_map, key, format!("goto {}", balancer.name()));
        for (slot, endpoint) in back.slots.iter().enumerate() {
            let value = format!("{} . {}", endpoint.ip(), endpoint.port());
            rows.map(endpoint_map, format!("{prefix}{port} . {slot}"), value);
        }
    }
    rows
}

impl Front {
    /// Returns what sends packets on from here; nothing when there is no endpoint.
    fn balancer(&self, back: &Back) -> Option<Balancer> {
        let count = back.slots.len();
        (count > 0).then_some(Balancer { pick: back.pick, protocol: self.protocol, count })
    }
}

/// Returns the port's protocol; TCP when it names none, nothing when it is unknown.
fn protocol(port: &ServicePort) -> Option<Protocol> {
    match port.protocol.as_deref().unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

impl Scope {
    fn node_name(&self) -> Option<&str> {
        self.node.as_ref().map(|(name, _)| name.as_str())
    }
}
