//! All that a namespace needs so that pods and services are reachable in it: routes, service rules and, on nodes, DNS.
//!
//! An agent runs it for its node. `keelson up` runs it once more for the machine's own namespace when its agents have
//! namespaces of their own, so that `curl http://<clusterIP>/` works from the machine.

use std::net::Ipv4Addr;

use client::Cache;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::dns::{self, DnsConfig, DnsError, ZoneConfig};
use crate::network::{
    ClusterId, Ipv4Net, Netns, NetworkError, Ranges, RangesConfig, RoutesConfig, run_routes, uplink,
};
use crate::proxy::{self, ProxyConfig, ProxyError, Scope};

/// What to serve in which namespace.
#[derive(Clone, Debug)]
pub struct DataplaneConfig {
    pub cluster: ClusterId,
    pub netns: Netns,
    /// The node that lives in the namespace and its pods' range; `None` where no node lives.
    pub node: Option<(String, Ipv4Net)>,
    /// The pods of all nodes.
    pub pod_range: Ipv4Net,
    pub service_range: Ipv4Net,
    /// Where pods ask for names, and the domain they are in; `None` where no node lives.
    pub dns: Option<(Ipv4Addr, String)>,
}

/// The objects it follows.
#[derive(Clone, Debug)]
pub struct DataplaneCaches {
    pub services: Cache<Service>,
    pub slices: Cache<EndpointSlice>,
    pub nodes: Cache<Node>,
}

/// Why a namespace is not served.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error(transparent)]
    Dns(#[from] DnsError),
}

/// Serves the namespace until shutdown. Routes and rules stay, so that a restart interrupts nobody: [`remove`] is for the
/// end of the cluster.
///
/// # Errors
/// When the first routes or rules are refused or the DNS address is taken. Later refusals are logged and tried again.
pub async fn run(
    config: DataplaneConfig,
    caches: DataplaneCaches,
    shutdown: CancellationToken,
) -> Result<(), DataplaneError> {
    let source = uplink(&config.netns).await.ok().map(|uplink| uplink.address);
    Ranges::install(ranges(&config, source)).await?;
    let DataplaneConfig { cluster, netns, node, pod_range, service_range, dns } = config;
    let stop = shutdown.child_token();
    let mut tasks: JoinSet<Result<(), DataplaneError>> = JoinSet::new();

    let own_node = node.as_ref().map(|(name, _)| name.clone());
    let routes = RoutesConfig { netns: netns.clone(), own_node, pod_range };
    let routing = run_routes(routes, caches.nodes, stop.clone());
    tasks.spawn(async { Ok(routing.await?) });

    let scope = Scope { node, pod_range, service_range, dns: dns.as_ref().map(|(address, _)| *address) };
    let rules = ProxyConfig { cluster, netns: netns.clone(), scope };
    let proxying = proxy::run(rules, caches.services.clone(), caches.slices.clone(), stop.clone());
    tasks.spawn(async { Ok(proxying.await?) });

    if let Some((address, domain)) = dns {
        let names = DnsConfig { netns, address, zone: ZoneConfig { domain, service_range, pod_range } };
        let answering = dns::run(names, caches.services, caches.slices, stop.clone());
        tasks.spawn(async { Ok(answering.await?) });
    }
    join(tasks, &stop).await
}

/// Waits for all tasks; the first that fails ends the others and is reported.
async fn join(
    mut tasks: JoinSet<Result<(), DataplaneError>>,
    stop: &CancellationToken,
) -> Result<(), DataplaneError> {
    let mut outcome = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        if let Err(error) = ended {
            stop.cancel();
            outcome = outcome.and(Err(error));
        }
    }
    outcome
}

/// Takes routes, rules and pod links out of the namespace.
///
/// # Errors
/// When the kernel refuses; what is already gone is fine.
pub async fn remove(config: &DataplaneConfig) -> Result<(), NetworkError> {
    Ranges::of(ranges(config, None)).remove().await
}

fn ranges(config: &DataplaneConfig, source: Option<Ipv4Addr>) -> RangesConfig {
    RangesConfig {
        cluster: config.cluster,
        netns: config.netns.clone(),
        pod_range: config.pod_range,
        service_range: config.service_range,
        source,
    }
}
