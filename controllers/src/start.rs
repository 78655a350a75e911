//! Starts every controller of the catalogue for one tenure: which caches wake which keys, in one place.

use client::ApiObject;
use client::{Change, Client, ObjectKey, Tenure};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::args::Config;
use crate::deployment::{self, DeploymentController};
use crate::replicaset::{self, ReplicaSetController};
use crate::runtime::{Caches, Controller, Driver, Executor};

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

fn own_key<K: ApiObject>(change: &Change<K>) -> Vec<ObjectKey> {
    vec![ObjectKey::new(&change.namespace, &change.name)]
}
