//! Packs endpoints into slices of at most 100 with equal ports. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Backend, MANAGED_BY, MANAGER, SERVICE_NAME};
use crate::pods;
use crate::runtime::Action;

/// Upstream's default bound.
const SLICE_ENDPOINT_COUNT_MAX: usize = 100;
/// Tells consumers that no pod address stands behind the service's own.
const HEADLESS: &str = "service.kubernetes.io/headless";

/// Returns the writes that make the slices say what the backends are.
pub(super) fn pack(
    service: &Service,
    backends: &[Backend],
    present: &[&Arc<EndpointSlice>],
    revision: u64,
) -> Vec<Action> {
    let mut groups = group_by_ports(backends);
    if groups.is_empty() {
        // A service without backends still has one empty slice, as upstream's consumers expect.
        groups.push((Vec::new(), Vec::new()));
    }
    let mut unused: Vec<&Arc<EndpointSlice>> = present.to_vec();
    let mut actions = Vec::new();
    let mut created_count = 0;
    for (ports, mut missing) in groups {
        let (matching, others): (Vec<_>, Vec<_>) = unused.into_iter().partition(|slice| {
            (missing.is_empty() && backends.is_empty()) || slice.ports.as_ref() == Some(&ports)
        });
        unused = others;
        let mut kept: Vec<(&Arc<EndpointSlice>, Vec<Endpoint>)> =
            matching.into_iter().map(|slice| (slice, take_present(slice, &mut missing))).collect();
        for (_, endpoints) in &mut kept {
            let room = SLICE_ENDPOINT_COUNT_MAX.saturating_sub(endpoints.len()).min(missing.len());
            endpoints.extend(missing.drain(..room).map(|backend| backend.endpoint.clone()));
        }
        let keeps_one_empty = backends.is_empty();
        for (index, (slice, endpoints)) in kept.iter().enumerate() {
            if endpoints.is_empty() && !(keeps_one_empty && index == 0) {
                actions.push(Action::delete(slice.as_ref()));
            } else {
                actions.extend(rewrite(service, slice, &ports, endpoints));
            }
        }
        let chunks: Vec<Vec<Endpoint>> = if missing.is_empty() && keeps_one_empty && kept.is_empty() {
            vec![Vec::new()]
        } else {
            let chunks = missing.chunks(SLICE_ENDPOINT_COUNT_MAX);
            chunks.map(|chunk| chunk.iter().map(|backend| backend.endpoint.clone()).collect()).collect()
        };
        for endpoints in chunks {
            actions.push(create(service, ports.clone(), endpoints, (revision, created_count)));
            created_count += 1;
        }
    }
    actions.extend(unused.into_iter().map(|slice| Action::delete(slice.as_ref())));
    actions
}

fn group_by_ports(backends: &[Backend]) -> Vec<(Vec<EndpointPort>, Vec<&Backend>)> {
    let mut groups: BTreeMap<String, (Vec<EndpointPort>, Vec<&Backend>)> = BTreeMap::new();
    for backend in backends {
        let id = serde_json::to_string(&backend.ports).unwrap_or_default();
        let (_, members) = groups.entry(id).or_insert_with(|| (backend.ports.clone(), Vec::new()));
        members.push(backend);
    }
    groups.into_values().collect()
}

/// Takes the backends that a slice already lists, in the slice's order.
fn take_present(slice: &EndpointSlice, missing: &mut Vec<&Backend>) -> Vec<Endpoint> {
    let listed = slice.endpoints.iter().flatten().filter_map(|endpoint| {
        let uid = endpoint.target_ref.as_ref()?.uid.as_ref()?;
        let position = missing.iter().position(|backend| {
            backend.endpoint.target_ref.as_ref().and_then(|target| target.uid.as_ref()) == Some(uid)
        })?;
        Some(missing.remove(position).endpoint.clone())
    });
    listed.take(SLICE_ENDPOINT_COUNT_MAX).collect()
}

fn rewrite(
    service: &Service,
    slice: &Arc<EndpointSlice>,
    ports: &[EndpointPort],
    endpoints: &[Endpoint],
) -> Option<Action> {
    let mut wanted = EndpointSlice::clone(slice);
    wanted.metadata.labels = Some(labels(service));
    if !endpoints.is_empty() || wanted.ports.is_none() {
        wanted.ports = Some(ports.to_vec());
    }
    let present = wanted.endpoints.replace(endpoints.to_vec()).unwrap_or_default();
    let changed = present != endpoints || wanted.ports != slice.ports || wanted.metadata != slice.metadata;
    changed.then(|| Action::update(&wanted))
}

fn create(
    service: &Service,
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
    (revision, slot): (u64, usize),
) -> Action {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let uid = service.metadata.uid.as_deref().unwrap_or_default();
    let slice = EndpointSlice {
        address_type: "IPv4".to_owned(),
        metadata: ObjectMeta {
            namespace: service.metadata.namespace.clone(),
            generate_name: Some(format!("{name}-")),
            labels: Some(labels(service)),
            owner_references: Some(vec![pods::controller_reference(service)]),
            ..ObjectMeta::default()
        },
        endpoints: Some(endpoints),
        ports: Some(ports),
    };
    Action::create(&slice, format!("{uid}.slice.{revision}.{slot}"))
}

/// The service's own labels travel to its slices, with ours on top.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    let spec = service.spec.as_ref();
    if spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}
