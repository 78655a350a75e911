//! One JSON line each way between plugin and agent. Both are the same binary version or one apart: fields are only ever added.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Longest line that either side reads; real ones have a few hundred bytes.
pub(super) const LINE_BYTES_MAX: u64 = 64 << 10;

/// What the runtime wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Verb {
    /// Give the sandbox its network.
    Add,
    /// Take it away; repeats are fine.
    Del,
    /// See whether it is still there.
    Check,
}

/// The sandbox whose network is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxNetwork {
    /// The runtime's sandbox id.
    pub sandbox_id: String,
    /// Path of the network namespace; `None` in removals after the namespace is gone.
    pub netns: Option<PathBuf>,
    /// Name of the device inside, `eth0`.
    pub interface: String,
    /// Pod namespace.
    pub pod_namespace: String,
    /// Pod name.
    pub pod_name: String,
    /// Pod uid.
    pub pod_uid: String,
}

/// The address that a sandbox got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodAddress {
    /// The pod's address.
    pub ip: IpAddr,
    /// Its prefix length: 32 for routed pairs.
    pub prefix: u8,
    /// The next hop.
    pub gateway: Option<IpAddr>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) verb: Verb,
    pub(super) sandbox: SandboxNetwork,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Address(PodAddress),
    Done,
    Failed(String),
}
