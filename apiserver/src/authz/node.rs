//! The Node authorizer: a node reaches what belongs to it, by relation rather than by role.

use super::{Attributes, Decision};
use crate::authn::User;

/// Returns the node that a user is: `system:node:<name>` in group `system:nodes`.
pub(crate) fn node_name(user: &User) -> Option<&str> {
    user.name.strip_prefix("system:node:").filter(|name| !name.is_empty() && user.is_in("system:nodes"))
}

/// Decides what the relation alone decides; `None` leaves it to RBAC.
pub(super) fn decide(node: &str, attributes: &Attributes) -> Option<Decision> {
    let verb = attributes.verb.as_str();
    let reads_one = matches!(verb, "get" | "watch" | "list") && !attributes.name.is_empty();
    let allow_if = |allowed: bool| Some(if allowed { Decision::Allow } else { Decision::Deny });
    match (attributes.group.as_str(), attributes.resource.as_str(), attributes.subresource.as_str()) {
        ("", "secrets" | "configmaps", "") => {
            let readable = reads_one && !attributes.namespace.is_empty();
            Some(if readable { Decision::IfPodReferences { node: node.to_owned() } } else { Decision::Deny })
        }
        // A token for an account that one of its pods runs as.
        ("", "serviceaccounts", "token") if verb == "create" => {
            Some(Decision::IfPodReferences { node: node.to_owned() })
        }
        ("", "pods", "") => match verb {
            "list" | "watch" => allow_if(attributes.selected_node == node),
            // Admission checks that the pod is this node's.
            "get" | "delete" => allow_if(true),
            _ => Some(Decision::Deny),
        },
        ("", "pods", "status") => allow_if(matches!(verb, "get" | "update" | "patch")),
        ("", "nodes", "" | "status") => match verb {
            "create" | "update" | "patch" => allow_if(attributes.name == node || verb == "create"),
            "get" | "list" | "watch" => None,
            _ => Some(Decision::Deny),
        },
        ("coordination.k8s.io", "leases", "") => {
            let own =
                attributes.namespace == "kube-node-lease" && (attributes.name == node || verb == "create");
            allow_if(own && matches!(verb, "get" | "create" | "update" | "patch" | "delete"))
        }
        _ => None,
    }
}
