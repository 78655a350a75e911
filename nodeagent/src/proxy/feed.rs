//! Keeps a [`ServiceIndex`] equal to the caches and says which services changed.

use std::collections::BTreeSet;

use client::{Cache, Change, ChangeKind, Changes};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::proxy::index::{ServiceIndex, ServiceKey};

/// The index and the changes that lead it on.
pub(crate) struct ServiceFeed {
    index: ServiceIndex,
    services: Changes<Service>,
    slices: Changes<EndpointSlice>,
}

impl ServiceFeed {
    /// Waits for the first lists and returns the index of what exists.
    pub(crate) async fn start(services: &Cache<Service>, slices: &Cache<EndpointSlice>) -> Self {
        tokio::join!(services.wait_synced(), slices.wait_synced());
        Self { index: ServiceIndex::default(), services: services.subscribe(), slices: slices.subscribe() }
    }

    /// Returns the services as of the last [`ServiceFeed::next`].
    pub(crate) fn index(&self) -> &ServiceIndex {
        &self.index
    }

    /// Waits for changes, takes in all that have arrived, and returns the services they touch. Everything that exists
    /// counts as changed at first. Cancel safe.
    pub(crate) async fn next(&mut self) -> BTreeSet<ServiceKey> {
        let mut touched = BTreeSet::new();
        tokio::select! {
            change = self.services.recv() => take_service(&mut self.index, change, &mut touched),
            change = self.slices.recv() => take_slice(&mut self.index, change, &mut touched),
        }
        touched.append(&mut self.pending());
        touched
    }

    /// Takes in what has arrived without waiting.
    pub(crate) fn pending(&mut self) -> BTreeSet<ServiceKey> {
        let mut touched = BTreeSet::new();
        while let Some(change) = self.services.try_recv() {
            take_service(&mut self.index, change, &mut touched);
        }
        while let Some(change) = self.slices.try_recv() {
            take_slice(&mut self.index, change, &mut touched);
        }
        touched
    }
}

fn take_service(index: &mut ServiceIndex, change: Change<Service>, touched: &mut BTreeSet<ServiceKey>) {
    touched.insert(match change.kind {
        ChangeKind::Applied => index.set_service(change.object),
        ChangeKind::Deleted => index.remove_service(&change.object),
    });
}

fn take_slice(index: &mut ServiceIndex, change: Change<EndpointSlice>, touched: &mut BTreeSet<ServiceKey>) {
    // A slice whose label moved to another service leaves the old one.
    touched.extend(change.old.as_ref().and_then(|old| index.remove_slice(old)));
    touched.extend(match change.kind {
        ChangeKind::Applied => index.set_slice(change.object),
        ChangeKind::Deleted => index.remove_slice(&change.object),
    });
}
