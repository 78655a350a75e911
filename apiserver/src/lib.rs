//! The Kubernetes API over REST and gRPC.
//!
//! Pure parts, in reading order: [`registry`] (catalogue and kinds), [`schema`] (what fields exist), [`patch`],
//! [`discovery`] and [`openapi`] (documents made from the catalogue).

pub mod discovery;
pub mod patch;
pub mod registry;
pub mod schema;
