//! Writes the `kubernetes` service's endpoints whenever a server comes or goes.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;
use store::kv::{KvError, ProgressMode, WatchQuery};
use store::mvcc::KeyRange;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::shape;
use crate::bootstrap;
use crate::endpoints::delete::DeleteOptions;
use crate::endpoints::list::ListOptions;
use crate::endpoints::status::Status;
use crate::endpoints::{Api, Call, WriteOptions};
use crate::object;
use crate::registry::Part;
use crate::selector::Selector;
use crate::storage::keys::SERVERS;

/// How long somebody else's change of the objects may last, as upstream.
const REPEAT: Duration = Duration::from_secs(10);
/// Pause after a failure, while the store has no leader.
const RETRY: Duration = Duration::from_secs(1);

/// Follows the registrations until shutdown. `port` is this server's, for the service when it is absent.
pub(super) async fn run(api: &Api, port: u16, shutdown: CancellationToken) {
    while let Some(Err(status)) = shutdown.run_until_cancelled(follow(api, port)).await {
        warn!(reason = status.message, "the kubernetes service's endpoints cannot be kept now");
        shutdown.run_until_cancelled(tokio::time::sleep(RETRY)).await;
    }
}

/// Publishes now, after every change, and from time to time; ends only with an error.
async fn follow(api: &Api, port: u16) -> Result<Infallible, Status> {
    let query =
        WatchQuery { progress: ProgressMode::OnRequest, ..WatchQuery::new(KeyRange::prefix(SERVERS)) };
    // Before the first list, so that no change falls between the two.
    let mut changes = api.storage.kv.watch(query).await?;
    loop {
        publish(api, port).await?;
        match tokio::time::timeout(REPEAT, changes.next()).await {
            Ok(Some(change)) => drop(change?),
            Ok(None) => return Err(Status::from(KvError::Stopped)),
            Err(_nothing_changed) => {}
        }
    }
}

/// Makes the objects list the servers that are alive. New ones come before old ones go.
async fn publish(api: &Api, port: u16) -> Result<(), Status> {
    let servers = alive(api).await?;
    if servers.is_empty() {
        return Ok(());
    }
    bootstrap::ensure_service(api, port).await?;
    if let Some(call) = bootstrap::call("", "endpoints", shape::NAMESPACE, shape::NAME) {
        write(api, &call, &shape::endpoints(&servers)).await?;
    }
    let slices = shape::slices(&servers, target_port(api).await?);
    let Some(collection) = bootstrap::call("discovery.k8s.io", "endpointslices", shape::NAMESPACE, "") else {
        return Ok(());
    };
    for (name, slice) in &slices {
        write(api, &Call { name: name.clone(), ..collection.clone() }, slice).await?;
    }
    for name in own_slices(api, &collection).await? {
        if !slices.contains_key(&name) {
            remove(api, &Call { name, ..collection.clone() }).await?;
        }
    }
    Ok(())
}

async fn alive(api: &Api) -> Result<BTreeSet<SocketAddr>, Status> {
    let keys = api.storage.keys_below(SERVERS).await.map_err(Status::internal)?;
    Ok(keys.iter().filter_map(|key| key.parse().ok()).collect())
}

/// Returns the port that the service names for its servers: the same on all of them, whatever their own is.
async fn target_port(api: &Api) -> Result<u16, Status> {
    let Some(call) = bootstrap::call("", "services", shape::NAMESPACE, shape::NAME) else { return Ok(0) };
    let service = api.existing(&call).await?.object;
    let port = object::at(&service, &["spec", "ports"]).and_then(|ports| ports.get(0)?.get("targetPort"));
    Ok(port.and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok()).unwrap_or(0))
}

async fn own_slices(api: &Api, collection: &Call) -> Result<Vec<String>, Status> {
    let label = format!("{}={}", shape::SERVICE_NAME_LABEL, shape::NAME);
    let selector = Selector::parse(collection.kind, &label, "").map_err(Status::internal)?;
    let page = api.list(collection, &ListOptions { selector, ..ListOptions::default() }).await?;
    let names = page.items.iter().map(|stored| object::name(&stored.object).to_owned());
    Ok(names.filter(|name| shape::is_own_slice(name)).collect())
}

/// Gives an object the wanted fields and labels, making it when it is absent.
async fn write(api: &Api, call: &Call, wanted: &Value) -> Result<(), Status> {
    let Some(wanted) = wanted.as_object() else { return Ok(()) };
    let changed = api
        .modify(call, Part::Main, &WriteOptions::default(), &|current| {
            let mut next = current.clone();
            let labels = object::at(wanted, &["metadata", "labels"]).and_then(Value::as_object);
            for (label, value) in labels.into_iter().flatten() {
                object::set_at(&mut next, &["metadata", "labels", label], value.clone());
            }
            let fields = wanted.iter().filter(|(field, _)| *field != "metadata");
            next.extend(fields.map(|(field, value)| (field.clone(), value.clone())));
            Ok(next)
        })
        .await;
    match changed {
        Err(status) if status.reason == "NotFound" => {
            let collection = Call { name: String::new(), ..call.clone() };
            match api.create(&collection, wanted.clone(), &WriteOptions::default()).await {
                // Another server was first. It hears of every change too, so what it wrote will be what we would write.
                Err(status) if status.reason == "AlreadyExists" => Ok(()),
                other => other.map(drop),
            }
        }
        other => other.map(drop),
    }
}

async fn remove(api: &Api, call: &Call) -> Result<(), Status> {
    match api.delete(call, &DeleteOptions::default(), &WriteOptions::default()).await {
        Err(status) if status.reason != "NotFound" => Err(status),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use store::kv::Kv;
    use store::memory::MemoryStore;
    use store::mvcc::Op;
    use store::mvcc::{Revision, Txn};

    use super::*;
    use crate::admission::ServiceRanges;
    use crate::node_channel::NodeChannels;
    use crate::pki::Bundle;
    use crate::storage::Storage;
    use crate::storage::condition::put;

    async fn api(kv: &MemoryStore) -> Api {
        let api = Api {
            storage: Storage::new(Arc::new(kv.clone())),
            ranges: ServiceRanges::default(),
            tokens: Bundle::generate().unwrap().token_signer().unwrap(),
            nodes: NodeChannels::default(),
            idempotency: Default::default(),
            outside: transport::outside::Machine::shared(),
        };
        bootstrap::ensure(&api, 6443).await.unwrap();
        api
    }

    async fn register(kv: &MemoryStore, servers: &[&str]) {
        let puts = servers.iter().map(|server| Op::Put(put(format!("{SERVERS}{server}"), "")));
        kv.txn(Txn { success: puts.collect(), ..Txn::default() }).await.unwrap();
    }

    fn revision(kv: &MemoryStore) -> Revision {
        kv.status().revision
    }

    #[tokio::test]
    async fn what_is_true_already_is_not_written_again() {
        let kv = MemoryStore::default();
        let api = api(&kv).await;
        register(&kv, &["192.0.2.1:6443", "192.0.2.1:6444"]).await;
        let before = revision(&kv);
        publish(&api, 6443).await.unwrap();
        let written = revision(&kv);
        assert!(written > before);
        publish(&api, 6444).await.unwrap();
        assert_eq!(revision(&kv), written);
    }

    #[tokio::test]
    async fn without_any_registration_the_last_state_stays() {
        let kv = MemoryStore::default();
        let api = api(&kv).await;
        let before = revision(&kv);
        publish(&api, 6443).await.unwrap();
        assert_eq!(revision(&kv), before);
    }

    #[tokio::test]
    async fn what_somebody_else_changed_is_put_right_and_their_slices_stay() {
        let kv = MemoryStore::default();
        let api = api(&kv).await;
        register(&kv, &["192.0.2.1:6443"]).await;
        publish(&api, 6443).await.unwrap();
        let slices = bootstrap::call("discovery.k8s.io", "endpointslices", shape::NAMESPACE, "").unwrap();
        let own = Call { name: shape::NAME.to_owned(), ..slices.clone() };
        let theirs = Call { name: "kubernetes-theirs".to_owned(), ..slices.clone() };
        let mut other =
            shape::slices(&BTreeSet::from(["192.0.2.9:1".parse().unwrap()]), 1)[shape::NAME].clone();
        write(&api, &own, &other).await.unwrap();
        other["metadata"]["name"] = theirs.name.clone().into();
        write(&api, &theirs, &other).await.unwrap();
        publish(&api, 6443).await.unwrap();
        let addresses = |object: &crate::registry::Object| object["endpoints"][0]["addresses"][0].clone();
        assert_eq!(addresses(&api.existing(&own).await.unwrap().object), "192.0.2.1");
        assert_eq!(addresses(&api.existing(&theirs).await.unwrap().object), "192.0.2.9");
    }
}
