//! The node agent: runs the pods that are bound to one node, and the node's network, services and DNS.
//!
//! `agent` is the wiring; `pod` is the pure state machine of one pod; everything else is the edge around it.

pub mod agent;
pub mod channel;
pub mod cni;
pub mod config;
pub mod containerd;
pub mod dns;
pub mod events;
pub mod images;
pub mod logs;
pub mod network;
mod nft;
pub mod node;
pub mod pleg;
pub mod pod;
pub mod pods;
pub mod probes;
pub mod proxy;
pub mod runtime;
pub mod status_writer;
pub mod volumes;
pub mod worker;

pub use agent::Agent;
pub use config::{Config, Connection, NetworkChoice, RuntimeChoice};
