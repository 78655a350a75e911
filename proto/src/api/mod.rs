//! API object types, re-exported once, and pure arithmetic on them.

pub use k8s_openapi;
