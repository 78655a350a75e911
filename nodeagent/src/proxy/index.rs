//! Services with their slices, and which endpoints of a service may be used. Pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

/// The label that names a slice's service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Namespace and name of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServiceKey {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl ServiceKey {
    /// Returns the service that a slice belongs to.
    pub(crate) fn of_slice(slice: &EndpointSlice) -> Option<Self> {
        let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?.clone();
        Some(Self { namespace: slice.metadata.namespace.clone().unwrap_or_default(), name })
    }

    /// Returns a service's own key.
    pub(crate) fn of_service(service: &Service) -> Self {
        let metadata = &service.metadata;
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }
}

impl std::fmt::Display for ServiceKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// One endpoint that a service may use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Backend {
    pub(crate) address: Ipv4Addr,
    /// Set for endpoints with a name of their own (stateful sets, `spec.hostname`).
    pub(crate) hostname: Option<String>,
    pub(crate) node: Option<String>,
    /// Port name to number, as the slice says.
    pub(crate) ports: BTreeMap<String, u16>,
}

#[derive(Debug, Default)]
struct Entry {
    service: Option<Arc<Service>>,
    slices: BTreeMap<String, Arc<EndpointSlice>>,
}

/// All services with their slices.
#[derive(Debug, Default)]
pub(crate) struct ServiceIndex {
    entries: BTreeMap<ServiceKey, Entry>,
}

impl ServiceIndex {
    /// Takes a service in; returns its key.
    pub(crate) fn set_service(&mut self, service: Arc<Service>) -> ServiceKey {
        let key = ServiceKey::of_service(&service);
        self.entries.entry(key.clone()).or_default().service = Some(service);
        key
    }

    /// Forgets a service; returns its key.
    pub(crate) fn remove_service(&mut self, service: &Service) -> ServiceKey {
        let key = ServiceKey::of_service(service);
        self.entries.entry(key.clone()).or_default().service = None;
        self.forget_empty(&key);
        key
    }

    /// Takes a slice in; returns its service, if it names one.
    pub(crate) fn set_slice(&mut self, slice: Arc<EndpointSlice>) -> Option<ServiceKey> {
        let key = ServiceKey::of_slice(&slice)?;
        let name = slice.metadata.name.clone().unwrap_or_default();
        self.entries.entry(key.clone()).or_default().slices.insert(name, slice);
        Some(key)
    }

    /// Forgets a slice; returns its service, if it names one.
    pub(crate) fn remove_slice(&mut self, slice: &EndpointSlice) -> Option<ServiceKey> {
        let key = ServiceKey::of_slice(slice)?;
        if let (Some(entry), Some(name)) = (self.entries.get_mut(&key), &slice.metadata.name) {
            entry.slices.remove(name);
        }
        self.forget_empty(&key);
        Some(key)
    }

    fn forget_empty(&mut self, key: &ServiceKey) {
        if self.entries.get(key).is_some_and(|entry| entry.service.is_none() && entry.slices.is_empty()) {
            self.entries.remove(key);
        }
    }

    /// Returns a service, if it exists.
    pub(crate) fn service(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.entries.get(key)?.service.as_ref()
    }

    /// Returns the endpoints that new connections may use: the ready ones, or, when there is none, those that still
    /// serve while they end (so that a service whose last pods are being replaced refuses nobody too early).
    pub(crate) fn backends(&self, key: &ServiceKey) -> Vec<Backend> {
        let ready = self.select(key, is_ready);
        if ready.is_empty() { self.select(key, is_serving_to_the_end) } else { ready }
    }

    /// Returns the endpoints that are ready.
    pub(crate) fn ready_backends(&self, key: &ServiceKey) -> Vec<Backend> {
        self.select(key, is_ready)
    }

    fn select(&self, key: &ServiceKey, is_usable: fn(&Endpoint) -> bool) -> Vec<Backend> {
        let slices = self.entries.get(key).into_iter().flat_map(|entry| entry.slices.values());
        let mut found: Vec<Backend> = slices
            .filter(|slice| slice.address_type == "IPv4")
            .flat_map(|slice| {
                let ports = ports(slice);
                let usable = slice.endpoints.iter().flatten().filter(move |endpoint| is_usable(endpoint));
                usable.filter_map(move |endpoint| backend(endpoint, &ports))
            })
            .collect();
        found.sort();
        found.dedup();
        found
    }
}

/// An absent `ready` means ready (API convention of EndpointSlice).
fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

fn is_serving_to_the_end(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    conditions.serving.unwrap_or(false) && conditions.terminating.unwrap_or(false)
}

fn ports(slice: &EndpointSlice) -> BTreeMap<String, u16> {
    let ports = slice.ports.iter().flatten();
    ports
        .filter_map(|port| {
            let number = u16::try_from(port.port?).ok()?;
            Some((port.name.clone().unwrap_or_default(), number))
        })
        .collect()
}

/// Only the first address counts (API convention: all addresses of an endpoint are the same backend).
fn backend(endpoint: &Endpoint, ports: &BTreeMap<String, u16>) -> Option<Backend> {
    Some(Backend {
        address: endpoint.addresses.first()?.parse().ok()?,
        hostname: endpoint.hostname.clone(),
        node: endpoint.node_name.clone(),
        ports: ports.clone(),
    })
}
