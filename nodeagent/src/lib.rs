//! The node agent: runs the pods that are bound to one node, and the node's network, services and DNS.
//!
//! `agent` is the wiring; `pod` is the pure state machine of one pod; everything else is the edge around it.

pub mod cni;
pub mod containerd;
pub mod dns;
pub mod images;
pub mod network;
mod nft;
pub mod proxy;
pub mod runtime;
