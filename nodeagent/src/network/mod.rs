//! The machine's network: pod interfaces, routes between nodes, and network namespaces that act as nodes.
//!
//! Every pod hangs on a routed veth pair, without a bridge: the host side carries the node's gateway address as `/32`, the
//! pod its own address as `/32`, and the kernel routes between them, so each packet passes the forward hook.
//!
//! ```text
//!   pod netns                        node netns
//!   eth0 10.244.1.7/32  ── veth ──  k<cluster><address> 10.244.1.1/32     route 10.244.1.7/32 dev k…
//!   default via 10.244.1.1                                                unreachable 10.244.0.0/16   (catch-all)
//!                                                                         local 10.96.0.0/16 dev lo   (catch-all)
//! ```
//!
//! Decisions are pure ([`ipam`], [`plan`]); the edge runs `ip` batches on threads that live inside one namespace ([`netns`]).
//! Invariants: every kernel name carries the cluster's eight hex digits; no packet to a pod or service range leaves the
//! machine by the default route. Not here: service rules (`proxy`), packet filters between pods (policies do not exist yet).

mod cidr;
pub mod dataplane;
mod error;
pub mod hosts;
mod ipam;
mod names;
mod netns;
mod plan;
mod pods;
mod provider;
mod ranges;
mod record;
mod routes;
mod tool;
mod uplink;

pub use cidr::Ipv4Net;
pub use error::NetworkError;
pub use names::ClusterId;
pub use netns::Netns;
pub use pods::{PodAddress, PodNetwork, PodNetworkConfig};
pub use ranges::{Ranges, RangesConfig};
pub use routes::{NodeRoute, RoutesConfig, run as run_routes};
pub use uplink::{Uplink, uplink};

pub use tool::missing;
pub(crate) use tool::{run_nft, sysctl};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
