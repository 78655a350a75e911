//! Clients of API servers that never retry: every call has one known or unknown outcome.
//!
//! Both faces are used as they are offered: REST over a plain HTTP client, gRPC over the project's own. Each is pinned to one server.

mod access;
mod dial;
mod grpc;
mod leadership;
mod rest;
mod server;
mod watch;

pub use access::Access;
pub use dial::{Dial, Stream};
pub use server::Server;
pub use watch::{Shown, Watching};

use std::time::Duration;

use serde_json::Value;

use crate::history::{Named, Resource};

/// Longest wait for an answer: an election and a little more.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the path of a collection.
fn collection(resource: Resource, namespace: &str) -> String {
    let root = match resource.group() {
        "" => "/api/v1".to_owned(),
        group => format!("/apis/{group}/v1"),
    };
    match resource {
        Resource::Namespaces | Resource::Nodes => format!("{root}/{}", resource.plural()),
        Resource::ConfigMaps | Resource::Deployments | Resource::ReplicaSets | Resource::Pods => {
            format!("{root}/namespaces/{namespace}/{}", resource.plural())
        }
    }
}

/// Returns the path of an object.
fn path(object: &Named) -> String {
    format!("{}/{}", collection(object.resource, &object.namespace), object.name)
}

/// Takes away what says who wrote which field: it is long, and judged by nobody.
fn without_managers(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        let named = |resource| Named {
            resource,
            namespace: "n".to_owned(),
            name: "x".to_owned(),
            ..Named::default()
        };
        assert_eq!(path(&named(Resource::ConfigMaps)), "/api/v1/namespaces/n/configmaps/x");
        assert_eq!(path(&named(Resource::Deployments)), "/apis/apps/v1/namespaces/n/deployments/x");
        assert_eq!(path(&named(Resource::Namespaces)), "/api/v1/namespaces/x");
    }

    #[test]
    fn an_object_is_kept_without_its_managers() {
        let object = json!({ "metadata": { "resourceVersion": "7", "managedFields": [1] } });
        assert_eq!(without_managers(object), json!({ "metadata": { "resourceVersion": "7" } }));
    }
}
