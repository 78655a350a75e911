//! The Kubernetes API over REST and gRPC.

pub mod registry;
