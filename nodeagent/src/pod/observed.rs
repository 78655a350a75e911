//! What the runtime holds of one pod.

use crate::runtime::{ContainerInfo, SandboxInfo, SandboxState};

/// Sandboxes and containers of one pod uid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// All its sandboxes.
    pub sandboxes: Vec<SandboxInfo>,
    /// All its containers, in every sandbox.
    pub containers: Vec<ContainerInfo>,
}

impl Observed {
    /// Returns the newest sandbox when it is ready.
    #[must_use]
    pub fn ready_sandbox(&self) -> Option<&SandboxInfo> {
        self.newest_sandbox().filter(|sandbox| sandbox.state == SandboxState::Ready)
    }

    /// Returns the newest sandbox.
    #[must_use]
    pub fn newest_sandbox(&self) -> Option<&SandboxInfo> {
        self.sandboxes.iter().max_by_key(|sandbox| (sandbox.attempt, sandbox.created_at))
    }

    /// Returns the newest container of a name, in any sandbox.
    #[must_use]
    pub fn newest(&self, name: &str) -> Option<&ContainerInfo> {
        let of_name = self.containers.iter().filter(|container| container.name == name);
        of_name.max_by_key(|container| (container.attempt, container.created_at))
    }

    /// Returns the newest container of a name in one sandbox.
    #[must_use]
    pub fn newest_in(&self, sandbox: &SandboxInfo, name: &str) -> Option<&ContainerInfo> {
        self.newest(name).filter(|container| container.sandbox == sandbox.id)
    }

    /// Returns the newest container of a name that is older than `than`.
    #[must_use]
    pub fn previous(&self, than: &ContainerInfo) -> Option<&ContainerInfo> {
        let older =
            self.containers.iter().filter(|item| item.name == than.name && item.attempt < than.attempt);
        older.max_by_key(|container| container.attempt)
    }

    /// Returns every container that may be alive.
    pub fn live(&self) -> impl Iterator<Item = &ContainerInfo> {
        self.containers.iter().filter(|container| container.is_live())
    }
}
