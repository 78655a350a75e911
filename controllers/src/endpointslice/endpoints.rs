//! The older Endpoints object of a service, for those who still read it. Pure.

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Backend;
use crate::pods::controller_reference;
use crate::runtime::Action;

/// Upstream cuts the object here, because every change rewrites all of it.
const ADDRESS_COUNT_MAX: usize = 1000;

/// Returns the write that makes Endpoints say what the backends are, if any is needed.
pub(super) fn write(service: &Service, backends: &[Backend], present: Option<&Endpoints>) -> Option<Action> {
    let subsets = subsets(backends);
    match present {
        None => Some(Action::create(
            &Endpoints {
                metadata: ObjectMeta {
                    namespace: service.metadata.namespace.clone(),
                    name: service.metadata.name.clone(),
                    labels: service.metadata.labels.clone(),
                    // Unlike upstream's: the collector then removes it with its service, and only then.
                    owner_references: Some(vec![controller_reference(service)]),
                    ..ObjectMeta::default()
                },
                subsets: Some(subsets),
            },
            String::new(),
        )),
        Some(present) if present.subsets.clone().unwrap_or_default() != subsets => {
            Some(Action::update(&Endpoints { subsets: Some(subsets), ..present.clone() }))
        }
        Some(_) => None,
    }
}

/// One subset per combination of ports, in the order of its first pod's name.
fn subsets(backends: &[Backend]) -> Vec<EndpointSubset> {
    let mut subsets: Vec<EndpointSubset> = Vec::new();
    for backend in backends.iter().filter(|backend| !is_terminating(backend)).take(ADDRESS_COUNT_MAX) {
        let ports = ports(backend);
        let position =
            subsets.iter().position(|subset| subset.ports.as_ref() == Some(&ports)).unwrap_or_else(|| {
                subsets.push(EndpointSubset { ports: Some(ports), ..EndpointSubset::default() });
                subsets.len() - 1
            });
        let Some(subset) = subsets.get_mut(position) else { continue };
        let list = if is_ready(backend) { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().push(EndpointAddress {
            ip: backend.address.clone(),
            hostname: backend.endpoint.hostname.clone(),
            node_name: backend.endpoint.node_name.clone(),
            target_ref: backend.endpoint.target_ref.clone(),
        });
    }
    subsets
}

fn ports(backend: &Backend) -> Vec<EndpointPort> {
    let ports = backend.ports.iter().map(|port| EndpointPort {
        name: port.name.clone().filter(|name| !name.is_empty()),
        port: port.port.unwrap_or(0),
        protocol: port.protocol.clone(),
        app_protocol: port.app_protocol.clone(),
    });
    ports.collect()
}

fn is_ready(backend: &Backend) -> bool {
    backend.endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true)
}

fn is_terminating(backend: &Backend) -> bool {
    backend.endpoint.conditions.as_ref().and_then(|conditions| conditions.terminating) == Some(true)
}
