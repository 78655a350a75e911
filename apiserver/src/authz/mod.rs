//! Who may do what: the Node authorizer's rules, then RBAC over a built-in policy. Pure, but for one question that
//! needs stored pods ([`Decision::IfPodReferences`]).
//!
//! RBAC objects are not served yet, so the policy is what [`bootstrap`] says and nothing else.

mod bootstrap;
mod node;
mod rbac;
mod references;

use crate::authn::User;
use crate::endpoints::status::{Details, Status};

pub(crate) use node::node_name;
pub(crate) use references::refers;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// `get`, `list`, `create`, … or the lower-case HTTP method for paths.
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Set instead of a resource for `/version` and the like.
    pub(crate) path: String,
    /// `spec.nodeName` that the request's field selector demands.
    pub(crate) selected_node: String,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allow,
    Deny,
    /// Allowed when a pod bound to this node, in the request's namespace, refers to the object.
    IfPodReferences {
        node: String,
    },
}

/// Decides a request.
pub(crate) fn decide(user: &User, attributes: &Attributes) -> Decision {
    if user.is_in("system:masters") {
        return Decision::Allow;
    }
    if let Some(node) = node_name(user)
        && let Some(decision) = node::decide(node, attributes)
    {
        return decision;
    }
    let allowed = bootstrap::roles_of(user).into_iter().flatten().any(|rule| rule.allows(attributes));
    if allowed { Decision::Allow } else { Decision::Deny }
}

/// Returns the refusal in upstream's words.
pub(crate) fn refusal(user: &User, attributes: &Attributes) -> Status {
    if attributes.resource.is_empty() {
        let (name, verb, path) = (&user.name, &attributes.verb, &attributes.path);
        let message = format!("forbidden: User \"{name}\" cannot {verb} path \"{path}\"");
        return Status::not_allowed(message, Details::default());
    }
    let resource = match attributes.subresource.as_str() {
        "" => attributes.resource.clone(),
        subresource => format!("{}/{subresource}", attributes.resource),
    };
    let qualified = match attributes.group.as_str() {
        "" => attributes.resource.clone(),
        group => format!("{}.{group}", attributes.resource),
    };
    let scope = match attributes.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    let subject = match attributes.name.as_str() {
        "" => qualified,
        name => format!("{qualified} \"{name}\""),
    };
    let message = format!(
        "{subject} is forbidden: User \"{}\" cannot {} resource \"{resource}\" in API group \"{}\" {scope}",
        user.name, attributes.verb, attributes.group,
    );
    let details = Details {
        name: attributes.name.clone(),
        group: attributes.group.clone(),
        kind: attributes.resource.clone(),
        ..Details::default()
    };
    Status::not_allowed(message, details)
}

#[cfg(test)]
mod tests;
