//! Commands that steer a running cluster from outside, over its client port, with etcdctl's flag names.
//!
//! - [`connection`]: whom to ask, and as whom.
//! - [`member`]: `keelson member`.

mod connection;
pub mod member;

pub(crate) use connection::Connection;
pub use connection::ConnectionArgs;
