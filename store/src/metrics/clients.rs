//! What is counted of clients, on all ports of one member together.

use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use transport::traffic::Traffic;

use super::calls::Calls;

/// Calls, bytes and what is open. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct ClientCounters {
    pub(crate) calls: Arc<Calls>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) watch_streams: Gauge,
    /// Hashes and comparisons of passwords, those that wait included.
    pub(crate) passwords: Gauge,
}

impl ClientCounters {
    pub(crate) fn new(services: &[&str]) -> Self {
        Self {
            calls: Arc::new(Calls::of(services)),
            traffic: Arc::default(),
            watch_streams: Gauge::default(),
            passwords: Gauge::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        self.calls.register(registry);
        let number = |value: u64| {
            let gauge: Gauge = Gauge::default();
            gauge.set(super::count(value));
            gauge
        };
        registry.register(
            "etcd_network_client_grpc_received_bytes_total",
            "Bytes that clients have sent, HTTP included and TLS not",
            number(self.traffic.received_bytes()),
        );
        registry.register(
            "etcd_network_client_grpc_sent_bytes_total",
            "Bytes that clients were sent, HTTP included and TLS not",
            number(self.traffic.sent_bytes()),
        );
        registry.register(
            "keelson_store_client_connections",
            "Open connections of clients; each port takes 10000",
            number(self.traffic.connections()),
        );
        registry.register(
            "etcd_debugging_mvcc_watch_stream_total",
            "Open streams of watches",
            self.watch_streams.clone(),
        );
        registry.register(
            "keelson_store_passwords_under_way",
            "Passwords that are hashed or compared, two at a time, or wait for it",
            self.passwords.clone(),
        );
    }
}
