//! The lists that a new controller or a new kind adds one line to.

use client::ResourceKind;

/// A kind whose objects are collected with their owner and with their namespace.
#[derive(Clone, Copy, Debug)]
pub struct CollectedKind {
    pub group: &'static str,
    pub version: &'static str,
    pub resource: &'static str,
    pub kind: &'static str,
    pub scope: Scope,
}

/// Whether objects live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Cluster,
    Namespaced,
}

impl CollectedKind {
    /// Returns the kind as the client names it.
    #[must_use]
    pub fn resource_kind(&self) -> ResourceKind {
        ResourceKind {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            resource: self.resource.to_owned(),
            kind: self.kind.to_owned(),
        }
    }
}

/// Finds the kind that an owner reference names.
#[must_use]
pub fn kind_of_reference(api_version: &str, kind: &str) -> Option<&'static CollectedKind> {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    COLLECTED_KINDS.iter().find(|known| known.group == group && known.kind == kind)
}

/// All kinds of the API, in the order in which a namespace is emptied: what runs first, what it reads last.
pub const COLLECTED_KINDS: &[CollectedKind] = &[
    namespaced("apps", "v1", "deployments", "Deployment"),
    namespaced("apps", "v1", "replicasets", "ReplicaSet"),
    namespaced("", "v1", "pods", "Pod"),
    namespaced("", "v1", "services", "Service"),
    namespaced("", "v1", "endpoints", "Endpoints"),
    namespaced("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    namespaced("coordination.k8s.io", "v1", "leases", "Lease"),
    namespaced("", "v1", "configmaps", "ConfigMap"),
    namespaced("", "v1", "secrets", "Secret"),
    namespaced("", "v1", "serviceaccounts", "ServiceAccount"),
    namespaced("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding"),
    namespaced("rbac.authorization.k8s.io", "v1", "roles", "Role"),
    namespaced("", "v1", "events", "Event"),
    namespaced("events.k8s.io", "v1", "events", "Event"),
    cluster("", "v1", "nodes", "Node"),
    cluster("", "v1", "namespaces", "Namespace"),
];

const fn namespaced(
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    kind: &'static str,
) -> CollectedKind {
    CollectedKind { group, version, resource, kind, scope: Scope::Namespaced }
}

const fn cluster(
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    kind: &'static str,
) -> CollectedKind {
    CollectedKind { group, version, resource, kind, scope: Scope::Cluster }
}
