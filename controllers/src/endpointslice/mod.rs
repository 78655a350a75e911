//! EndpointSlices and Endpoints of a Service: which pods answer for it, and in what state.
//!
//! [`slices`] packs the endpoints (pure), keeping each where it was so that a changed pod rewrites one slice.

mod endpoints;
mod slices;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use client::{Change, ObjectKey};
use k8s_openapi::api::core::v1::{ContainerPort, Endpoints, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proto::api::labels::Selector;
use serde_json::{Map, Value};

use crate::pods;
use crate::runtime::{Action, Caches, Context, Controller, Plan};

/// Which service a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Who writes a slice; others' slices are left alone.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";

/// Reads the caches for Services.
#[derive(Debug)]
pub struct EndpointSliceController {
    pub caches: Caches,
}

/// What a decision about a Service needs.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub service: Option<Arc<Service>>,
    /// Every pod of the namespace.
    pub pods: Vec<Arc<Pod>>,
    /// Every slice of the namespace.
    pub slices: Vec<Arc<EndpointSlice>>,
    pub slices_revision: u64,
    pub endpoints: Option<Arc<Endpoints>>,
}

impl Controller for EndpointSliceController {
    type Observed = Observed;

    const NAME: &'static str = "endpointslice-controller";

    fn observe(&self, key: &ObjectKey) -> Observed {
        let slices_revision = self.caches.endpoint_slices.revision();
        Observed {
            service: self.caches.services.get(&key.namespace, &key.name),
            pods: self.caches.pods.list_namespace(&key.namespace),
            slices: self.caches.endpoint_slices.list_namespace(&key.namespace),
            slices_revision,
            endpoints: self.caches.endpoints.get(&key.namespace, &key.name),
        }
    }

    fn reconcile(observed: &Observed, _context: &Context) -> Plan {
        let Some(service) = &observed.service else { return Plan::nothing() };
        let Some(selector) = selector_of(service) else { return Plan::nothing() };
        let mut backends: Vec<Backend> = observed
            .pods
            .iter()
            .filter(|pod| selector.matches(pod.metadata.labels.as_ref()))
            .filter_map(|pod| Backend::of(service, pod))
            .collect();
        backends.sort_by(|one, other| one.name.cmp(&other.name));
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let mine: Vec<&Arc<EndpointSlice>> =
            observed.slices.iter().filter(|slice| is_mine(slice, name)).collect();
        let mut actions: Vec<Action> = slices::pack(service, &backends, &mine, observed.slices_revision);
        actions.extend(endpoints::write(service, &backends, observed.endpoints.as_deref()));
        Plan { actions, ..Plan::default() }
    }
}

/// Returns the Services that a change of a pod concerns.
#[must_use]
pub fn keys_of_pod(caches: &Caches, change: &Change<Pod>) -> Vec<ObjectKey> {
    let services = caches.services.list_namespace(&change.namespace);
    let states = || std::iter::once(&change.object).chain(change.old.as_ref());
    let selecting = services.iter().filter(|service| {
        selector_of(service)
            .is_some_and(|selector| states().any(|pod| selector.matches(pod.metadata.labels.as_ref())))
    });
    selecting.map(|service| ObjectKey::of(service.as_ref())).collect()
}

/// Returns the Service that a slice belongs to.
#[must_use]
pub fn keys_of_slice(change: &Change<EndpointSlice>) -> Vec<ObjectKey> {
    let labels = change.object.metadata.labels.as_ref();
    let service = labels.and_then(|labels| labels.get(SERVICE_NAME));
    service.map(|service| ObjectKey::new(&change.namespace, service)).into_iter().collect()
}

fn is_mine(slice: &EndpointSlice, service: &str) -> bool {
    let label = |name: &str| slice.metadata.labels.as_ref()?.get(name).map(String::as_str);
    label(SERVICE_NAME) == Some(service) && label(MANAGED_BY) == Some(MANAGER)
}

/// Services without a selector are filled by others.
fn selector_of(service: &Service) -> Option<Selector> {
    let spec = service.spec.as_ref()?;
    let labels = spec.selector.as_ref().filter(|labels| !labels.is_empty())?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let labels: Map<String, Value> =
        labels.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
    Some(Selector::from_map(&labels))
}

/// A pod that answers for a service.
#[derive(Clone, Debug)]
struct Backend {
    name: String,
    address: String,
    ports: Vec<EndpointPort>,
    endpoint: Endpoint,
}

impl Backend {
    fn of(service: &Service, pod: &Pod) -> Option<Self> {
        let address = pod.status.as_ref()?.pod_ip.clone().filter(|address| !address.is_empty())?;
        if pods::is_terminal(pod) {
            return None;
        }
        let spec = service.spec.as_ref()?;
        let serving = pods::is_ready(pod);
        let terminating = pod.metadata.deletion_timestamp.is_some();
        let publishes_all = spec.publish_not_ready_addresses == Some(true);
        let endpoint = Endpoint {
            addresses: vec![address.clone()],
            conditions: Some(EndpointConditions {
                ready: Some(publishes_all || (serving && !terminating)),
                serving: Some(serving),
                terminating: Some(terminating),
            }),
            hostname: hostname(service, pod),
            node_name: Some(pods::node_name(pod).to_owned()).filter(|name| !name.is_empty()),
            target_ref: Some(ObjectReference {
                kind: Some("Pod".to_owned()),
                namespace: pod.metadata.namespace.clone(),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
                ..ObjectReference::default()
            }),
            ..Endpoint::default()
        };
        let ports = spec.ports.iter().flatten().filter_map(|port| endpoint_port(port, pod)).collect();
        Some(Self { name: pod.metadata.name.clone()?, address, ports, endpoint })
    }
}

/// A pod's own host name counts when it names this service as its subdomain.
fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let same = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    spec.hostname.clone().filter(|name| same && !name.is_empty())
}

/// Resolves a target port for one pod; a name that the pod does not have gives no port.
fn endpoint_port(port: &ServicePort, pod: &Pod) -> Option<EndpointPort> {
    let number = match &port.target_port {
        None | Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => named_port(pod, name, protocol(port))?,
    };
    Some(EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(number),
        protocol: Some(protocol(port).to_owned()),
        app_protocol: port.app_protocol.clone(),
    })
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let is_wanted = |port: &&ContainerPort| {
        port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
    };
    let containers = pod.spec.as_ref()?.containers.iter();
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .find(is_wanted)
        .map(|port| port.container_port)
}
