//! What every cluster has from the start. Servers that race here are fine: what exists stays.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use tracing::info;

use crate::authn::User;
use crate::catalog::stored_kind;
use crate::endpoints::status::Status;
use crate::endpoints::{Api, Call, WriteOptions};
use crate::object;
use crate::registry::{Object, Part, Scope};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Makes the initial objects.
///
/// # Errors
/// When the store cannot be written; the caller tries again.
pub(crate) async fn ensure(api: &Api, advertised: IpAddr, port: u16) -> Result<(), Status> {
    for namespace in NAMESPACES {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        create(api, "", "namespaces", "", &object).await?;
    }
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
    create(api, "", "services", "default", &service).await?;
    if advertised.is_loopback() {
        // No pod could reach it, and endpoints may not hold such an address.
        info!(%advertised, "a loopback address is not published in the kubernetes service");
        return Ok(());
    }
    publish_address(api, advertised, port).await
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

fn call(group: &str, resource: &str, namespace: &str, name: &str) -> Option<Call> {
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

/// Adds this server's address to the endpoints of the `kubernetes` service.
async fn publish_address(api: &Api, advertised: IpAddr, port: u16) -> Result<(), Status> {
    let address = advertised.to_string();
    if let Some(call) = call("", "endpoints", "default", "kubernetes") {
        let empty = json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
            },
            "subsets": [{"addresses": [], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
        });
        merge(api, &call, &empty, &|object| {
            let mut addresses = object::at(object, &["subsets"])
                .and_then(|subsets| subsets.get(0)?.get("addresses")?.as_array().cloned())
                .unwrap_or_default();
            if addresses.iter().any(|known| known.get("ip").and_then(Value::as_str) == Some(&address)) {
                return;
            }
            addresses.push(json!({"ip": address}));
            let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
            object.insert("subsets".to_owned(), json!([{"addresses": addresses, "ports": ports}]));
        })
        .await?;
    }
    let Some(call) = call("discovery.k8s.io", "endpointslices", "default", "kubernetes") else {
        return Ok(());
    };
    let empty = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": if advertised.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [], "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    merge(api, &call, &empty, &|object| {
        let mut endpoints = object.get("endpoints").and_then(Value::as_array).cloned().unwrap_or_default();
        let known = endpoints.iter().any(|endpoint| endpoint.to_string().contains(&format!("\"{address}\"")));
        if !known {
            endpoints.push(json!({"addresses": [address], "conditions": {"ready": true}}));
            object.insert("endpoints".to_owned(), endpoints.into());
        }
    })
    .await
}

/// Changes an object, made from `empty` when it is absent.
async fn merge(
    api: &Api,
    call: &Call,
    empty: &Value,
    change: &(dyn Fn(&mut Object) + Sync),
) -> Result<(), Status> {
    let changed = api
        .modify(call, Part::Main, &WriteOptions::default(), &|current| {
            let mut wanted = current.clone();
            change(&mut wanted);
            Ok(wanted)
        })
        .await;
    match changed {
        Err(status) if status.reason == "NotFound" => {
            let mut object = empty.as_object().cloned().unwrap_or_default();
            change(&mut object);
            let collection = Call { name: String::new(), ..call.clone() };
            match api.create(&collection, object, &WriteOptions::default()).await {
                // Another server was first: add ours to its object.
                Err(status) if status.reason == "AlreadyExists" => {
                    Box::pin(merge(api, call, empty, change)).await
                }
                other => other.map(|_| ()),
            }
        }
        other => other.map(|_| ()),
    }
}
