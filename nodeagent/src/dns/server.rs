//! The DNS sockets of one node, and the task that keeps the zone equal to the caches.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use client::Cache;
use hickory_server::Server;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

use crate::dns::handler::Handler;
use crate::dns::zone::{Zone, ZoneConfig};
use crate::network::{Netns, NetworkError};
use crate::proxy::ServiceFeed;

/// The port that resolvers ask.
const DNS_PORT: u16 = 53;
/// How long a TCP client may stay silent.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Answers that wait for one slow TCP client.
const TCP_ANSWER_COUNT_MAX: usize = 32;

/// Where the node's DNS server listens and what it knows.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    pub netns: Netns,
    /// The cluster DNS address; the service range must be routed locally ([`crate::network::Ranges`]).
    pub address: Ipv4Addr,
    pub zone: ZoneConfig,
}

/// Why the DNS server does not run.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The namespace cannot be entered.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The address is taken, by another cluster for instance, or not local.
    #[error("cannot listen on {address} for DNS: {source}")]
    Bind { address: SocketAddrV4, source: std::io::Error },
    /// A socket failed later on.
    #[error("DNS server: {0}")]
    Serve(String),
}

/// Serves DNS from the caches until shutdown. Nothing is answered before the first lists have arrived.
///
/// # Errors
/// When the sockets cannot be bound, or fail.
pub async fn run(
    config: DnsConfig,
    services: Cache<Service>,
    slices: Cache<EndpointSlice>,
    shutdown: CancellationToken,
) -> Result<(), DnsError> {
    let start = ServiceFeed::start(&services, &slices);
    let Some(mut feed) = shutdown.run_until_cancelled(start).await else { return Ok(()) };
    let zone = Arc::new(RwLock::new(Zone::new(config.zone.clone())));
    let present = feed.pending();
    update(&zone, &present, &feed);
    let mut server = serve(&config, Handler { zone: Arc::clone(&zone) }).await?;
    let outcome = loop {
        tokio::select! {
            () = shutdown.cancelled() => break Ok(()),
            ended = server.block_until_done() => break ended.map_err(|error| DnsError::Serve(error.to_string())),
            touched = feed.next() => update(&zone, &touched, &feed),
        }
    };
    if let Err(error) = server.shutdown_gracefully().await {
        tracing::debug!(%error, "DNS server stopped");
    }
    outcome
}

fn update(
    zone: &RwLock<Zone>,
    touched: &std::collections::BTreeSet<crate::proxy::ServiceKey>,
    feed: &ServiceFeed,
) {
    let mut zone = zone.write().unwrap_or_else(PoisonError::into_inner);
    for key in touched {
        zone.update(key, feed.index());
    }
}

async fn serve(config: &DnsConfig, handler: Handler) -> Result<Server<Handler>, DnsError> {
    let address = SocketAddrV4::new(config.address, DNS_PORT);
    let bound = config.netns.run(move || bind(address)).await?;
    let adopt = |(udp, tcp)| Ok((UdpSocket::from_std(udp)?, TcpListener::from_std(tcp)?));
    let (udp, tcp) = bound.and_then(adopt).map_err(|source| DnsError::Bind { address, source })?;
    let mut server = Server::new(handler);
    server.register_socket(udp);
    server.register_listener(tcp, TCP_IDLE, TCP_ANSWER_COUNT_MAX);
    tracing::info!(%address, "DNS listens");
    Ok(server)
}

/// A socket stays in the namespace it was made in, whoever uses it.
fn bind(address: SocketAddrV4) -> std::io::Result<(std::net::UdpSocket, std::net::TcpListener)> {
    let udp = std::net::UdpSocket::bind(address)?;
    let tcp = std::net::TcpListener::bind(address)?;
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    Ok((udp, tcp))
}
