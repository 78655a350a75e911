//! The network plugin through which containerd asks the agent for a sandbox's network.
//!
//! CRI has no way to hand over a ready network namespace: containerd makes one and runs a CNI plugin on it. That plugin is the
//! agent's own binary under another name ([`plugin::run`], chosen by `argv[0]`): it passes the request to the running agent
//! over a unix socket ([`server`]), so that addresses and routes are decided in one place and the plugin holds no state.

pub mod plugin;
mod protocol;
mod server;

pub use protocol::{PodAddress, SandboxNetwork};
pub use server::{CniServer, NetworkProvider};

/// CNI version of configuration and results; containerd 1.6 speaks 0.1.0 to 1.0.0.
pub const VERSION: &str = "0.4.0";
/// Name under which the agent's binary acts as network plugin.
pub const PLUGIN_NAME: &str = "keelson-cni";
/// containerd always runs a second plugin of this name, for the loopback device.
pub const LOOPBACK_NAME: &str = "loopback";
