//! Starts every controller of the catalogue for one tenure: which caches wake which keys, in one place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use client::{ApiObject, Change, ChangeKind, Client, ObjectKey, Tenure};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::args::Config;
use crate::deployment::{self, DeploymentController};
use crate::endpointslice::{self, EndpointSliceController};
use crate::garbage_collector::{self, GarbageCollector, Verifier};
use crate::namespace::NamespaceController;
use crate::node_ipam::{NodeIpamController, Pool};
use crate::node_lifecycle::{self, NodeLifecycleController};
use crate::pod_gc::PodGcController;
use crate::pods::node_name;
use crate::replicaset::{self, ReplicaSetController};
use crate::runtime::{Caches, Controller, Driver, Executor};
use crate::service_account::ServiceAccountController;

/// What all controllers of a tenure share.
pub(crate) struct Start<'a> {
    pub(crate) config: &'a Config,
    pub(crate) client: &'a Client,
    pub(crate) caches: &'a Caches,
    pub(crate) tenure: &'a Tenure,
    pub(crate) stop: CancellationToken,
}

impl Start<'_> {
    fn executor(&self, name: &'static str) -> Executor {
        Executor::new(
            self.client.clone(),
            self.tenure.fence(),
            name,
            self.config.metrics.clone(),
            self.tenure.lost.clone(),
        )
        .with_commit_delay(self.config.commit_delay)
    }

    fn driver<C: Controller>(&self, controller: C) -> Driver<C> {
        let executor = self.executor(C::NAME);
        Driver::new(controller, executor, self.caches.clone(), self.config.metrics.clone())
    }
}

/// Starts all controllers in `tasks`.
pub(crate) fn all(start: &Start<'_>, tasks: &mut JoinSet<()>) {
    tasks.spawn(replica_sets(start).run(start.stop.clone()));
    tasks.spawn(deployments(start).run(start.stop.clone()));
    tasks.spawn(endpoint_slices(start).run(start.stop.clone()));
    tasks.spawn(service_accounts(start).run(start.stop.clone()));
    tasks.spawn(namespaces(start).run(start.stop.clone()));
    tasks.spawn(node_ipam(start).run(start.stop.clone()));
    tasks.spawn(node_lifecycle(start).run(start.stop.clone()));
    tasks.spawn(pod_gc(start).run(start.stop.clone()));
    garbage_collector(start, tasks);
}

fn replica_sets(start: &Start<'_>) -> Driver<ReplicaSetController> {
    let caches = start.caches.clone();
    start
        .driver(ReplicaSetController { caches: start.caches.clone() })
        .feed(start.caches.replica_sets.subscribe(), own_key)
        .feed(start.caches.pods.subscribe(), move |change| replicaset::keys_of_pod(&caches, change))
}

fn deployments(start: &Start<'_>) -> Driver<DeploymentController> {
    let (for_sets, for_pods) = (start.caches.clone(), start.caches.clone());
    start
        .driver(DeploymentController { caches: start.caches.clone() })
        .feed(start.caches.deployments.subscribe(), own_key)
        .feed(start.caches.replica_sets.subscribe(), move |change| {
            deployment::keys_of_replica_set(&for_sets, change)
        })
        .feed(start.caches.pods.subscribe(), move |change| deployment::keys_of_pod(&for_pods, change))
}

fn endpoint_slices(start: &Start<'_>) -> Driver<EndpointSliceController> {
    let caches = start.caches.clone();
    start
        .driver(EndpointSliceController { caches: start.caches.clone() })
        .feed(start.caches.services.subscribe(), own_key)
        .feed(start.caches.endpoint_slices.subscribe(), endpointslice::keys_of_slice)
        .feed(start.caches.endpoints.subscribe(), own_key)
        .feed(start.caches.pods.subscribe(), move |change| endpointslice::keys_of_pod(&caches, change))
}

fn service_accounts(start: &Start<'_>) -> Driver<ServiceAccountController> {
    let controller = ServiceAccountController {
        caches: start.caches.clone(),
        ca_pem: Arc::from(start.config.ca_pem.as_str()),
    };
    start
        .driver(controller)
        .feed(start.caches.namespaces.subscribe(), own_key)
        .feed(start.caches.service_accounts.subscribe(), namespace_key)
        .feed(start.caches.root_cas.subscribe(), namespace_key)
}

fn namespaces(start: &Start<'_>) -> Driver<NamespaceController> {
    let mut driver = start
        .driver(NamespaceController { caches: start.caches.clone() })
        .feed(start.caches.namespaces.subscribe(), own_key);
    for cache in start.caches.metadata.values() {
        let namespaces = start.caches.namespaces.clone();
        driver = driver.feed(cache.subscribe(), move |change| {
            let namespace = namespaces.get("", &change.namespace);
            let is_going = namespace.is_some_and(|found| found.metadata.deletion_timestamp.is_some());
            if is_going { namespace_key(change) } else { Vec::new() }
        });
    }
    driver
}

fn node_ipam(start: &Start<'_>) -> Driver<NodeIpamController> {
    let (first, prefix) = start.config.cluster_network().expect("the configuration was validated at start");
    let pool = Pool { first, prefix, node_prefix: start.config.node_cidr_mask };
    start
        .driver(NodeIpamController { caches: start.caches.clone(), pool })
        .feed(start.caches.nodes.subscribe(), own_key)
}

fn node_lifecycle(start: &Start<'_>) -> Driver<NodeLifecycleController> {
    let caches = start.caches.clone();
    start
        .driver(NodeLifecycleController::new(start.caches.clone(), start.config))
        .feed(start.caches.nodes.subscribe(), own_key)
        .feed(start.caches.node_leases.subscribe(), |change| vec![ObjectKey::new("", &change.name)])
        .feed(start.caches.pods.subscribe(), move |change| node_lifecycle::keys_of_pod(&caches, change))
}

fn pod_gc(start: &Start<'_>) -> Driver<PodGcController> {
    let controller = PodGcController {
        caches: start.caches.clone(),
        quarantine: start.config.orphan_pod_quarantine,
        missing_since: Mutex::new(HashMap::new()),
    };
    let pods = start.caches.pods.clone();
    start.driver(controller).feed(start.caches.pods.subscribe(), own_key).feed(
        start.caches.nodes.subscribe(),
        move |change| match change.kind {
            ChangeKind::Applied => Vec::new(),
            ChangeKind::Deleted => {
                let bound = pods.list().into_iter().filter(|pod| node_name(pod) == change.name);
                bound.map(|pod| ObjectKey::of(pod.as_ref())).collect()
            }
        },
    )
}

fn garbage_collector(start: &Start<'_>, tasks: &mut JoinSet<()>) {
    let graph = Arc::default();
    let (verify, owners) = mpsc::channel(garbage_collector::VERIFY_QUEUE_COUNT);
    let (wake, woken) = mpsc::channel(garbage_collector::VERIFY_QUEUE_COUNT);
    let mut driver = start.driver(GarbageCollector::new(Arc::clone(&graph), verify)).feed_keys(woken);
    for (kind, cache) in &start.caches.metadata {
        if kind.resource == "events" {
            // Events own nothing, and nothing owns them: they expire.
            continue;
        }
        let (kind, graph) = (kind.clone(), Arc::clone(&graph));
        driver = driver
            .feed(cache.subscribe(), move |change| garbage_collector::note_change(&graph, &kind, change));
    }
    let verifier = Verifier { client: start.client.clone(), graph, owners, wake };
    let stop = start.stop.clone();
    tasks.spawn(async move {
        stop.run_until_cancelled(verifier.run()).await;
    });
    tasks.spawn(driver.run(start.stop.clone()));
}

fn namespace_key<K: ApiObject>(change: &Change<K>) -> Vec<ObjectKey> {
    vec![ObjectKey::new("", &change.namespace)]
}

fn own_key<K: ApiObject>(change: &Change<K>) -> Vec<ObjectKey> {
    vec![ObjectKey::new(&change.namespace, &change.name)]
}
