//! Cluster DNS, answered on every node from the services and endpoints that the proxy holds anyway.
//!
//! [`zone`] is the pure part: what each name of `cluster.local` and of the service and pod ranges means, after the
//! "Kubernetes DNS-Based Service Discovery" specification 1.1.0. [`handler`] speaks DNS; [`server`] binds the sockets.
//!
//! The cluster DNS address needs no rewriting rule: the service range is a local route (`network::Ranges`), so the node
//! binds the address itself, and a service of that address with endpoints still wins, because its rules come first.
//!
//! Not here: forwarding of outside names (they get SERVFAIL at once), AAAA records (the cluster is IPv4), zone transfer.

mod handler;
mod server;
mod zone;

pub use server::{DnsConfig, DnsError, run};
pub use zone::ZoneConfig;

#[cfg(test)]
mod tests;
