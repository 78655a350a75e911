//! Every kind that the server knows: one line each.

use proto::api::fields;

use crate::schema::{DecodeError, Decoded, Schemas};

use super::apps::{deployment::Deployment, replica_set::ReplicaSet};
use super::coordination::lease::Lease;
use super::core::{
    config_map::ConfigMap, endpoints::Endpoints, event::Event, namespace::Namespace, node::Node, pod::Pod,
    secret::Secret, service::Service, service_account::ServiceAccount,
};
use super::discovery::endpoint_slice::EndpointSlice;
use super::rbac::{binding::Binding, role::Role};
use super::{Kind, Object, Scope, Subresource, events};

const RBAC: &str = "rbac.authorization.k8s.io";
const STATUS: &[Subresource] = &[Subresource::Status];
const STATUS_AND_SCALE: &[Subresource] = &[Subresource::Scale, Subresource::Status];
const POD_SUBRESOURCES: &[Subresource] = &[
    Subresource::Attach,
    Subresource::Binding,
    Subresource::Eviction,
    Subresource::Exec,
    Subresource::Log,
    Subresource::PortForward,
    Subresource::Status,
];

static KINDS: &[Kind] = &[
    kind("", "namespaces", "namespace", "Namespace", &Namespace)
        .cluster()
        .short(&["ns"])
        .with(&[Subresource::Finalize, Subresource::Status]),
    kind("", "nodes", "node", "Node", &Node).cluster().short(&["no"]).with(STATUS).stored_under("minions"),
    kind("", "pods", "pod", "Pod", &Pod).short(&["po"]).in_all().with(POD_SUBRESOURCES),
    kind("", "services", "service", "Service", &Service)
        .short(&["svc"])
        .in_all()
        .with(STATUS)
        .stored_under("services/specs"),
    kind("", "endpoints", "endpoints", "Endpoints", &Endpoints)
        .short(&["ep"])
        .stored_under("services/endpoints"),
    kind("", "configmaps", "configmap", "ConfigMap", &ConfigMap).short(&["cm"]),
    kind("", "secrets", "secret", "Secret", &Secret),
    kind("", "serviceaccounts", "serviceaccount", "ServiceAccount", &ServiceAccount)
        .short(&["sa"])
        .with(&[Subresource::Token]),
    kind("", "events", "event", "Event", &Event).short(&["ev"]),
    kind("apps", "deployments", "deployment", "Deployment", &Deployment)
        .short(&["deploy"])
        .in_all()
        .with(STATUS_AND_SCALE),
    kind("apps", "replicasets", "replicaset", "ReplicaSet", &ReplicaSet)
        .short(&["rs"])
        .in_all()
        .with(STATUS_AND_SCALE),
    // Upstream serves both event groups from one stored form; ours are stored apart until there is conversion.
    kind("events.k8s.io", "events", "event", "Event", &events::event::Event)
        .short(&["ev"])
        .stored_under("events.k8s.io/events"),
    kind(RBAC, "roles", "role", "Role", &Role),
    kind(RBAC, "rolebindings", "rolebinding", "RoleBinding", &Binding),
    kind(RBAC, "clusterroles", "clusterrole", "ClusterRole", &Role).cluster(),
    kind(RBAC, "clusterrolebindings", "clusterrolebinding", "ClusterRoleBinding", &Binding).cluster(),
    kind("coordination.k8s.io", "leases", "lease", "Lease", &Lease),
    kind("discovery.k8s.io", "endpointslices", "endpointslice", "EndpointSlice", &EndpointSlice),
];

/// A kind that is only posted and answered, never stored.
#[derive(Clone, Copy, Debug)]
pub struct VirtualKind {
    pub group: &'static str,
    pub version: &'static str,
    pub resource: &'static str,
    pub singular: &'static str,
    pub kind: &'static str,
    pub scope: Scope,
}

static VIRTUAL_KINDS: &[VirtualKind] = &[
    virtual_kind("", "bindings", "binding", "Binding", Scope::Namespaced),
    virtual_kind(
        "authentication.k8s.io",
        "selfsubjectreviews",
        "selfsubjectreview",
        "SelfSubjectReview",
        Scope::Cluster,
    ),
    virtual_kind("authentication.k8s.io", "tokenreviews", "tokenreview", "TokenReview", Scope::Cluster),
    virtual_kind(
        "authorization.k8s.io",
        "localsubjectaccessreviews",
        "localsubjectaccessreview",
        "LocalSubjectAccessReview",
        Scope::Namespaced,
    ),
    virtual_kind(
        "authorization.k8s.io",
        "selfsubjectaccessreviews",
        "selfsubjectaccessreview",
        "SelfSubjectAccessReview",
        Scope::Cluster,
    ),
    virtual_kind(
        "authorization.k8s.io",
        "selfsubjectrulesreviews",
        "selfsubjectrulesreview",
        "SelfSubjectRulesReview",
        Scope::Cluster,
    ),
    virtual_kind(
        "authorization.k8s.io",
        "subjectaccessreviews",
        "subjectaccessreview",
        "SubjectAccessReview",
        Scope::Cluster,
    ),
];

const fn virtual_kind(
    group: &'static str,
    resource: &'static str,
    singular: &'static str,
    kind: &'static str,
    scope: Scope,
) -> VirtualKind {
    VirtualKind { group, version: "v1", resource, singular, kind, scope }
}

/// What discovery and OpenAPI say of a subresource.
#[derive(Clone, Copy, Debug)]
pub struct SubresourceFacts {
    /// Path segment below the object.
    pub name: &'static str,
    /// Group, version and kind that its bodies have.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub verbs: &'static [&'static str],
}

/// Returns every kind that is posted but not stored.
pub fn virtual_kinds() -> &'static [VirtualKind] {
    VIRTUAL_KINDS
}

/// Returns the group versions that are served, the core group first, each once.
pub fn group_versions() -> Vec<(&'static str, &'static str)> {
    let stored = KINDS.iter().map(|kind| (kind.group, kind.version));
    let posted = VIRTUAL_KINDS.iter().map(|kind| (kind.group, kind.version));
    let mut versions: Vec<(&'static str, &'static str)> = Vec::new();
    for version in stored.chain(posted) {
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    versions
}

/// Returns every kind, in the order that discovery lists groups.
pub fn all() -> &'static [Kind] {
    KINDS
}

/// Returns the kind served under a path's group, version and plural.
pub fn find(group: &str, version: &str, resource: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.group == group && kind.version == version && kind.resource == resource)
}

/// Returns the kind of an object's `apiVersion` and `kind`.
pub fn find_by_kind(api_version: &str, name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.kind == name && kind.api_version() == api_version)
}

impl Kind {
    /// Returns `apiVersion` of the kind's objects.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Returns the name used in messages: `pods`, `deployments.apps`.
    pub fn qualified_resource(&self) -> String {
        if self.group.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }

    /// Returns the name used in messages: `Pod`, `Deployment.apps`.
    pub fn qualified_kind(&self) -> String {
        if self.group.is_empty() { self.kind.to_owned() } else { format!("{}.{}", self.kind, self.group) }
    }

    /// Reads a JSON body as an object of this kind: pruned and in canonical form, with unknown and duplicate fields as
    /// findings (warnings, or a 400 under `fieldValidation=Strict`).
    ///
    /// # Errors
    /// Malformed JSON or a value of the wrong type; the text follows `KIND in version "V" cannot be handled as a KIND: `.
    pub fn decode(&self, body: &[u8]) -> Result<Decoded, DecodeError> {
        let schemas = Schemas::builtin();
        match schemas.of_kind(self.group, self.version, self.kind) {
            Some(schema) => schemas.decode(schema, body),
            None => Err(DecodeError(format!("no schema for {}", self.qualified_kind()))),
        }
    }

    /// Like [`Kind::decode`] for an object in memory, such as the result of a patch.
    ///
    /// # Errors
    /// A value of the wrong type.
    pub fn normalise(&self, object: &Object) -> Result<Decoded, DecodeError> {
        let body = serde_json::to_vec(object).map_err(|error| DecodeError(error.to_string()))?;
        self.decode(&body)
    }

    /// Returns the verbs of the main resource, sorted.
    pub fn verbs(&self) -> &'static [&'static str] {
        if self.group.is_empty() && self.resource == "namespaces" {
            // A namespace goes only one at a time: its deletion empties it first.
            &["create", "delete", "get", "list", "patch", "update", "watch"]
        } else {
            &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
        }
    }

    /// Reports whether the subresource is served.
    pub fn has(&self, subresource: Subresource) -> bool {
        self.subresources.contains(&subresource)
    }

    /// Returns what a subresource is called, speaks and allows.
    pub fn describe(&self, subresource: Subresource) -> SubresourceFacts {
        let facts =
            |name, group, version, kind, verbs| SubresourceFacts { name, group, version, kind, verbs };
        let own = |name, verbs| facts(name, self.group, self.version, self.kind, verbs);
        match subresource {
            Subresource::Status => own("status", &["get", "patch", "update"]),
            Subresource::Scale => facts("scale", "autoscaling", "v1", "Scale", &["get", "patch", "update"]),
            Subresource::Finalize => own("finalize", &["update"]),
            Subresource::Binding => facts("binding", "", "v1", "Binding", &["create"]),
            Subresource::Eviction => facts("eviction", "policy", "v1", "Eviction", &["create"]),
            Subresource::Log => own("log", &["get"]),
            Subresource::Exec => facts("exec", "", "v1", "PodExecOptions", &["create", "get"]),
            Subresource::Attach => facts("attach", "", "v1", "PodAttachOptions", &["create", "get"]),
            Subresource::PortForward => {
                facts("portforward", "", "v1", "PodPortForwardOptions", &["create", "get"])
            }
            Subresource::Token => facts("token", "authentication.k8s.io", "v1", "TokenRequest", &["create"]),
        }
    }

    /// Checks that every field of a field selector is known to this kind.
    ///
    /// # Errors
    /// Upstream's text for a 400 answer.
    pub fn check_field_selector(&self, selector: &fields::Selector) -> Result<(), String> {
        let known = self.strategy.selectable_fields(&Object::new());
        for term in selector.terms() {
            let field = term.field.as_str();
            if matches!(field, "metadata.name" | "metadata.namespace")
                || known.iter().any(|(name, _)| *name == field)
            {
                continue;
            }
            return Err(if known.is_empty() {
                format!(
                    "\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                )
            } else {
                format!("field label not supported: {field}")
            });
        }
        Ok(())
    }

    /// Reports whether an object matches a field selector.
    pub fn matches_fields(&self, selector: &fields::Selector, object: &Object) -> bool {
        if selector.is_empty() {
            return true;
        }
        let known = self.strategy.selectable_fields(object);
        selector.matches(|field| match field {
            "metadata.name" => Some(super::value::text(object, &["metadata", "name"])),
            "metadata.namespace" => Some(super::value::text(object, &["metadata", "namespace"])),
            _ => known.iter().find(|(name, _)| *name == field).map(|(_, value)| value.as_str()),
        })
    }

    const fn cluster(mut self) -> Self {
        self.scope = Scope::Cluster;
        self
    }

    const fn short(mut self, names: &'static [&'static str]) -> Self {
        self.short_names = names;
        self
    }

    const fn in_all(mut self) -> Self {
        self.categories = &["all"];
        self
    }

    const fn stored_under(mut self, prefix: &'static str) -> Self {
        self.storage_prefix = prefix;
        self
    }

    const fn with(mut self, subresources: &'static [Subresource]) -> Self {
        self.subresources = subresources;
        self
    }
}

/// A namespaced kind of version `v1` that is stored under its plural.
const fn kind(
    group: &'static str,
    resource: &'static str,
    singular: &'static str,
    name: &'static str,
    strategy: &'static dyn super::Strategy,
) -> Kind {
    Kind {
        group,
        version: "v1",
        resource,
        singular,
        kind: name,
        short_names: &[],
        categories: &[],
        scope: Scope::Namespaced,
        storage_prefix: resource,
        subresources: &[],
        strategy,
    }
}
