//! The agent's private containerd: where it lives, how it is configured, and its life.
//!
//! One containerd per agent, with its own root, state, socket and cgroup prefix, so that clusters on one machine do not meet. It
//! has a session of its own and outlives a killed agent; the next agent adopts it by pid file and socket. A graceful stop ends it.

mod cgroups;
mod config;
mod paths;
mod supervisor;

pub use cgroups::remove_cgroups;
pub use paths::Paths;
pub use supervisor::{Containerd, ContainerdError};
