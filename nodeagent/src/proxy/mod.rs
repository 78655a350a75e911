//! Services: rewrites what is sent to a service's address or node port to one of its ready endpoints.
//!
//! ```text
//!   Service + EndpointSlices ──▶ index ──▶ model (rows of one service) ──▶ nft batch ──▶ kernel
//! ```
//!
//! All services share a few maps. One chain exists per protocol and *number* of endpoints, not per service: `svcs` sends a
//! service's address to the chain for its count, which draws a slot and finds the endpoint of that slot in `eps-tcp` (or
//! `eps-udp`, `eps-sctp`). A change of one endpoint is therefore two or three elements, whatever the number of services.
//!
//! Invariants: slots of a service are `0..count` without holes; an endpoint that stays keeps its slot where it can; one
//! change is one transaction, so a packet sees the old endpoints or the new ones. Established connections follow the
//! kernel's connection tracking and are not touched.
//!
//! Not here yet: IPv6, external and load balancer addresses, topology hints, clean-up of tracked UDP flows whose endpoint
//! is gone (they move after the kernel's 30 s to 120 s of silence).

mod driver;
mod feed;
mod index;
mod model;
mod rules;
mod slots;

pub use driver::{ProxyConfig, ProxyError, run};
pub(crate) use feed::ServiceFeed;
pub(crate) use index::{Backend, ServiceIndex, ServiceKey};
pub use rules::Scope;

#[cfg(test)]
mod tests;
