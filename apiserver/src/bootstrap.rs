//! What every cluster has from the start. Servers that race here are fine: what exists stays.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::authn::User;
use crate::catalog::stored_kind;
use crate::endpoints::status::Status;
use crate::endpoints::{Api, Call, WriteOptions};
use crate::object;
use crate::registry::Scope;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Makes the initial objects.
///
/// # Errors
/// When the store cannot be written; the caller tries again.
pub(crate) async fn ensure(api: &Api, port: u16) -> Result<(), Status> {
    for namespace in NAMESPACES {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        create(api, "", "namespaces", "", &object).await?;
    }
    ensure_service(api, port).await
}

/// Makes the `kubernetes` service; `port` is where its first server listens.
///
/// # Errors
/// As [`ensure`].
pub(crate) async fn ensure_service(api: &Api, port: u16) -> Result<(), Status> {
    let address = api.ranges.kubernetes().to_string();
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "clusterIP": address, "clusterIPs": [address], "type": "ClusterIP",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
    });
    create(api, "", "services", "default", &service).await
}

async fn create(
    api: &Api,
    group: &str,
    resource: &str,
    namespace: &str,
    object: &Value,
) -> Result<(), Status> {
    let (Some(call), Some(object)) = (call(group, resource, namespace, ""), object.as_object()) else {
        return Ok(());
    };
    let kind = call.kind;
    let exists = Call { name: object::name(object).to_owned(), ..call.clone() };
    if api.existing(&exists).await.is_ok() {
        return Ok(());
    }
    let mut object = object.clone();
    kind.strategy.default(&mut object);
    match api.create(&call, object, &WriteOptions::default()).await {
        Err(status) if status.reason != "AlreadyExists" => Err(status),
        _ => Ok(()),
    }
}

/// Returns a call by the server itself.
pub(crate) fn call(group: &str, resource: &str, namespace: &str, name: &str) -> Option<Call> {
    let kind = stored_kind(group, resource)?;
    let namespace = if kind.scope == Scope::Cluster { "" } else { namespace };
    Some(Call {
        user: Arc::new(User {
            name: "system:apiserver".to_owned(),
            groups: vec!["system:masters".to_owned()],
            uid: String::new(),
        }),
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}
