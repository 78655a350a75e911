//! The policy every cluster starts with: who holds which rules. The names of users and groups are upstream's.

use super::rbac::{NONE, Rule};
use crate::authn::{AUTHENTICATED_GROUP, User};

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["get", "list", "watch", "create", "update", "patch", "delete"];

/// Everybody, also without credentials: is the server there, and which one is it.
const PUBLIC: &[Rule] = &[Rule {
    verbs: &["get"],
    paths: &["/healthz", "/livez", "/readyz", "/healthz/", "/livez/", "/readyz/", "/version", "/version/"],
    ..NONE
}];

/// Everybody with credentials: discovery, and what one may do oneself.
const DISCOVERY: &[Rule] = &[
    Rule {
        verbs: &["get"],
        paths: &[
            "/api",
            "/api/*",
            "/apis",
            "/apis/*",
            "/openapi",
            "/openapi/*",
            "/.well-known/*",
            "/openid/*",
        ],
        ..NONE
    },
    Rule {
        verbs: &["create"],
        groups: &["authorization.k8s.io"],
        resources: &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        ..NONE
    },
    Rule {
        verbs: &["create"],
        groups: &["authentication.k8s.io"],
        resources: &["selfsubjectreviews"],
        ..NONE
    },
];

/// The controller manager: it owns the objects that its controllers make, and reads everything.
const CONTROLLER_MANAGER: &[Rule] = &[
    Rule { verbs: READ, groups: &["*"], resources: &["*"], ..NONE },
    Rule {
        verbs: WRITE,
        groups: &["*"],
        resources: &[
            "pods",
            "pods/status",
            "replicasets",
            "replicasets/status",
            "deployments",
            "deployments/status",
            "endpoints",
            "endpointslices",
            "serviceaccounts",
            "configmaps",
            "events",
            "leases",
            "nodes",
            "nodes/status",
            "namespaces/status",
            "namespaces/finalize",
            "services/status",
        ],
        ..NONE
    },
    // The collector and the namespace controller remove objects of every kind, and release their finalizers.
    Rule {
        verbs: &["delete", "deletecollection", "patch", "update"],
        groups: &["*"],
        resources: &["*"],
        ..NONE
    },
    Rule { verbs: &["create"], resources: &["serviceaccounts/token", "pods/eviction"], ..NONE },
];

const SCHEDULER: &[Rule] = &[
    Rule { verbs: READ, groups: &["*"], resources: &["*"], ..NONE },
    Rule { verbs: &["create"], resources: &["pods/binding", "bindings"], ..NONE },
    Rule { verbs: &["patch", "update"], resources: &["pods/status"], ..NONE },
    Rule { verbs: &["delete"], resources: &["pods"], ..NONE },
    Rule {
        verbs: &["create", "patch", "update"],
        groups: &["", "events.k8s.io"],
        resources: &["events"],
        ..NONE
    },
    Rule { verbs: WRITE, groups: &["coordination.k8s.io"], resources: &["leases"], ..NONE },
];

/// Nodes, beside what the Node authorizer decides by relation: what a service proxy reads.
const NODE: &[Rule] = &[
    Rule { verbs: READ, resources: &["services", "endpoints", "nodes", "namespaces"], ..NONE },
    Rule { verbs: READ, groups: &["discovery.k8s.io"], resources: &["endpointslices"], ..NONE },
    Rule {
        verbs: &["create", "patch", "update"],
        groups: &["", "events.k8s.io"],
        resources: &["events"],
        ..NONE
    },
    Rule { verbs: &["create", "get"], groups: &["keelson"], resources: &["nodechannels"], ..NONE },
];

/// Returns the rules that a user holds.
pub(super) fn roles_of(user: &User) -> Vec<&'static [Rule]> {
    let mut roles = vec![PUBLIC];
    if user.is_in(AUTHENTICATED_GROUP) {
        roles.push(DISCOVERY);
    }
    match user.name.as_str() {
        "system:kube-controller-manager" => roles.push(CONTROLLER_MANAGER),
        "system:kube-scheduler" => roles.push(SCHEDULER),
        _ => {}
    }
    if user.is_in("system:nodes") {
        roles.push(NODE);
    }
    roles
}
