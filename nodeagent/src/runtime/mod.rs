//! The seam to container runtimes, in the agent's own words.
//!
//! Two implementations stand behind [`Runtime`]: [`cri`] drives any CRI socket (containerd from Debian first), [`fake`] is a
//! deterministic runtime in memory for hollow nodes. [`conformance`] is the one suite that both pass. Only [`convert`] knows CRI
//! messages. The trait has no notion of a pod's desired state: that is the `pod` core's job.

pub mod conformance;
mod convert;
pub mod cri;
pub mod fake;
mod model;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;

pub use model::{
    CONTAINER_NAME_LABEL, ContainerId, ContainerInfo, ContainerSpec, ContainerState, DnsConfig, EnvVar,
    ExecOutput, ExecRequest, Exit, ImageInfo, MountSpec, NamespaceMode, POD_NAME_LABEL, POD_NAMESPACE_LABEL,
    POD_UID_LABEL, Privilege, Propagation, Resources, RuntimeVersion, SandboxId, SandboxInfo, SandboxSpec,
    SandboxState, Seccomp, StreamRequest, UserSpec,
};

/// Errors of a container runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The sandbox, container or image is not known to the runtime; removals treat this as done.
    #[error("{what} is not known to the runtime")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// The runtime does not have this call; asking again is useless.
    #[error("the runtime does not implement {call}")]
    Unimplemented {
        /// Name of the CRI call.
        call: &'static str,
    },
    /// The command did not end within its deadline.
    #[error("{call} did not end within {limit:?}")]
    Timeout {
        /// Name of the call.
        call: &'static str,
        /// The deadline that passed.
        limit: Duration,
    },
    /// The runtime cannot be reached; retry later.
    #[error("the runtime cannot be reached: {message}")]
    Unreachable {
        /// Transport detail.
        message: String,
    },
    /// The runtime refused or failed the call.
    #[error("{message}")]
    Failed {
        /// Name of the call.
        call: &'static str,
        /// The runtime's own words.
        message: String,
    },
}

impl RuntimeError {
    /// Reports whether the thing asked for does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// A container runtime: sandboxes, containers, images and commands inside containers.
///
/// All calls may be repeated: stopping, removing what is gone is `Ok`. Every implementation bounds its own calls in time.
#[async_trait]
pub trait Runtime: Send + Sync + std::fmt::Debug {
    /// Whether its containers can be connected to. Where they cannot, probes and hooks that would connect count as answered.
    fn has_network(&self) -> bool {
        true
    }

    /// Returns name and version of the runtime.
    async fn version(&self) -> Result<RuntimeVersion, RuntimeError>;

    /// Creates and starts a sandbox with its network; on error nothing is left.
    async fn run_sandbox(&self, spec: &SandboxSpec) -> Result<SandboxId, RuntimeError>;
    /// Stops a sandbox: kills what still runs in it and releases its address.
    async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), RuntimeError>;
    /// Removes a sandbox and every container in it.
    async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), RuntimeError>;
    /// Returns every sandbox that carries our labels; `ip` is only filled by [`Runtime::sandbox`].
    async fn sandboxes(&self) -> Result<Vec<SandboxInfo>, RuntimeError>;
    /// Returns one sandbox with its address.
    async fn sandbox(&self, id: &SandboxId) -> Result<SandboxInfo, RuntimeError>;

    /// Creates a container in a sandbox, without starting it.
    async fn create_container(
        &self,
        sandbox: &SandboxId,
        sandbox_spec: &SandboxSpec,
        spec: &ContainerSpec,
    ) -> Result<ContainerId, RuntimeError>;
    /// Starts a created container.
    async fn start_container(&self, id: &ContainerId) -> Result<(), RuntimeError>;
    /// Sends the stop signal, and kills when `grace` has passed; returns when the container is down.
    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), RuntimeError>;
    /// Removes a container that does not run.
    async fn remove_container(&self, id: &ContainerId) -> Result<(), RuntimeError>;
    /// Returns every container that carries our labels; times and exit are only filled by [`Runtime::container`].
    async fn containers(&self) -> Result<Vec<ContainerInfo>, RuntimeError>;
    /// Returns one container with times and exit.
    async fn container(&self, id: &ContainerId) -> Result<ContainerInfo, RuntimeError>;
    /// Tells the runtime that the log file was renamed and must be opened anew.
    async fn reopen_log(&self, id: &ContainerId) -> Result<(), RuntimeError>;

    /// Runs a command to its end and returns what it printed (the runtime bounds the output).
    async fn exec_sync(&self, request: &ExecRequest) -> Result<ExecOutput, RuntimeError>;
    /// Returns the URL at which an exec or attach stream is served, reachable from the agent's network namespace.
    async fn stream_url(&self, request: &StreamRequest) -> Result<String, RuntimeError>;

    /// Returns an image by name, or `None` when the runtime does not hold it.
    async fn image(&self, name: &str) -> Result<Option<ImageInfo>, RuntimeError>;
    /// Fetches an image from its registry.
    async fn pull_image(&self, name: &str) -> Result<(), RuntimeError>;
    /// Returns every image that the runtime holds.
    async fn images(&self) -> Result<Vec<ImageInfo>, RuntimeError>;
    /// Imports a docker-archive or OCI layout tar file and returns the names it brought.
    async fn import_image(&self, archive: &Path) -> Result<Vec<String>, RuntimeError>;

    /// Waits until something may have changed: an event of the runtime, or the poll interval where it has none.
    async fn changed(&self);
}
