//! The Kubernetes API over REST and gRPC.
//!
//! Pure parts, in reading order: [`registry`] (catalogue and kinds), [`schema`] (what fields exist), [`patch`],
//! [`discovery`] and `openapi` (documents made from the catalogue), `authz`, `selector`. Then the machinery: `storage`
//! (objects in the store), `endpoints` (the verbs), `admission`, and the two projections `rest` and `grpc`. [`server`]
//! wires them; [`pki`] holds the cluster's keys.

pub mod discovery;
pub mod openapi;
pub mod patch;
pub mod registry;
pub mod schema;

mod admission;
mod authn;
mod authz;
mod bootstrap;
mod catalog;
mod compaction;
mod endpoints;
mod grpc;
mod metrics;
mod node_channel;
mod object;
pub mod pki;
mod protobuf;
mod rest;
mod selector;
pub mod server;
mod servers;
mod storage;

pub use admission::ServiceRanges;
pub use server::{Config, PortlessServer, RunningServer, Server, StartError};
