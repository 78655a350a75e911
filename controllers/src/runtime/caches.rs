//! The shared caches of the manager: one reflector per kind, for all controllers.

use std::collections::BTreeMap;

use client::{ApiObject, Cache, Client, MetadataObject, Reflector, ReflectorOptions, ResourceKind};
use futures::future::join_all;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::own_writes::CacheView;
use crate::catalog;

/// Where nodes renew their heartbeats.
pub const NODE_LEASE_NAMESPACE: &str = "kube-node-lease";
/// The object with the cluster's CA that every namespace gets.
pub const ROOT_CA_NAME: &str = "kube-root-ca.crt";

/// A cache of every kind that some controller decides on.
#[derive(Clone, Debug, Default)]
pub struct Caches {
    pub namespaces: Cache<Namespace>,
    pub nodes: Cache<Node>,
    pub node_leases: Cache<Lease>,
    pub pods: Cache<Pod>,
    pub services: Cache<Service>,
    pub endpoints: Cache<Endpoints>,
    pub endpoint_slices: Cache<EndpointSlice>,
    pub service_accounts: Cache<ServiceAccount>,
    /// Only those named [`ROOT_CA_NAME`].
    pub root_cas: Cache<ConfigMap>,
    pub deployments: Cache<Deployment>,
    pub replica_sets: Cache<ReplicaSet>,
    /// Metadata of every kind, for the garbage collector and namespaces that empty.
    pub metadata: BTreeMap<ResourceKind, Cache<MetadataObject>>,
}

impl Caches {
    /// Starts all reflectors in `tasks`.
    #[must_use]
    pub fn start(client: &Client, tasks: &mut JoinSet<()>, shutdown: &CancellationToken) -> Self {
        let mut start = Start { client, tasks, shutdown };
        let metadata = catalog::COLLECTED_KINDS
            .iter()
            .map(|kind| {
                let kind = kind.resource_kind();
                let cache = Reflector::spawn_as(
                    kind.clone(),
                    client.clone(),
                    ReflectorOptions::default(),
                    start.tasks,
                    shutdown.clone(),
                );
                (kind, cache)
            })
            .collect();
        let in_lease_namespace =
            ReflectorOptions { namespace: NODE_LEASE_NAMESPACE.into(), ..ReflectorOptions::default() };
        let named_root_ca = ReflectorOptions {
            field_selector: format!("metadata.name={ROOT_CA_NAME}"),
            ..ReflectorOptions::default()
        };
        Self {
            namespaces: start.all(),
            nodes: start.all(),
            node_leases: start.some(in_lease_namespace),
            pods: start.all(),
            services: start.all(),
            endpoints: start.all(),
            endpoint_slices: start.all(),
            service_accounts: start.all(),
            root_cas: start.some(named_root_ca),
            deployments: start.all(),
            replica_sets: start.all(),
            metadata,
        }
    }

    /// Waits until every cache has seen everything up to `revision`.
    pub async fn ensure_revision(&self, revision: u64) {
        let typed = self.typed_views().into_iter().map(|(_, view)| view);
        // Side by side: each quiet watch costs its patience, and a new leader should not add them up.
        join_all(typed.chain(self.metadata_views()).map(|view| view.ensure(revision))).await;
    }

    /// Returns the typed cache of a kind.
    #[must_use]
    pub fn view(&self, kind: &ResourceKind) -> Option<&dyn CacheView> {
        let typed = self.typed_views().into_iter().find(|(resource, _)| *resource == kind.resource);
        match typed {
            Some((_, view)) => Some(view),
            None => self.metadata.get(kind).map(|cache| {
                let view: &dyn CacheView = cache;
                view
            }),
        }
    }

    fn metadata_views(&self) -> impl Iterator<Item = &dyn CacheView> {
        self.metadata.values().map(|cache| {
            let view: &dyn CacheView = cache;
            view
        })
    }

    /// ConfigMaps and Leases are cached in part only, so their metadata caches answer for own writes.
    fn typed_views(&self) -> Vec<(&'static str, &dyn CacheView)> {
        vec![
            ("namespaces", &self.namespaces),
            ("nodes", &self.nodes),
            ("pods", &self.pods),
            ("services", &self.services),
            ("endpoints", &self.endpoints),
            ("endpointslices", &self.endpoint_slices),
            ("serviceaccounts", &self.service_accounts),
            ("deployments", &self.deployments),
            ("replicasets", &self.replica_sets),
            ("", &self.node_leases),
            ("", &self.root_cas),
        ]
    }
}

struct Start<'a> {
    client: &'a Client,
    tasks: &'a mut JoinSet<()>,
    shutdown: &'a CancellationToken,
}

impl Start<'_> {
    fn all<K: ApiObject>(&mut self) -> Cache<K> {
        self.some(ReflectorOptions::default())
    }

    fn some<K: ApiObject>(&mut self, options: ReflectorOptions) -> Cache<K> {
        Reflector::spawn(self.client.clone(), options, self.tasks, self.shutdown.clone())
    }
}
