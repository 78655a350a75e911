//! Reads one pod's state from the runtime; what cannot change any more is asked for once.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::pod::Observed;
use crate::runtime::{ContainerId, ContainerInfo, ContainerState, Runtime, RuntimeError, SandboxId};

/// The observing side of a worker.
#[derive(Debug)]
pub(super) struct Observer {
    uid: String,
    details: BTreeMap<ContainerId, ContainerInfo>,
    addresses: BTreeMap<SandboxId, IpAddr>,
}

impl Observer {
    pub(super) fn new(uid: String) -> Self {
        Self { uid, details: BTreeMap::new(), addresses: BTreeMap::new() }
    }

    /// Returns the pod's sandboxes and containers with times and exits.
    pub(super) async fn observe(&mut self, runtime: &dyn Runtime) -> Result<Observed, RuntimeError> {
        let mut sandboxes = runtime.sandboxes().await?;
        sandboxes.retain(|sandbox| sandbox.uid == self.uid);
        let mut listed = runtime.containers().await?;
        listed.retain(|container| container.pod_uid == self.uid);
        self.details.retain(|id, _| listed.iter().any(|container| container.id == *id));
        self.addresses.retain(|id, _| sandboxes.iter().any(|sandbox| sandbox.id == *id));
        let mut containers = Vec::with_capacity(listed.len());
        for container in listed {
            if let Some(detail) = self.detail(runtime, container).await? {
                containers.push(detail);
            }
        }
        Ok(Observed { sandboxes, containers })
    }

    async fn detail(
        &mut self,
        runtime: &dyn Runtime,
        listed: ContainerInfo,
    ) -> Result<Option<ContainerInfo>, RuntimeError> {
        if let Some(known) = self.details.get(&listed.id)
            && std::mem::discriminant(&known.state) == std::mem::discriminant(&listed.state)
        {
            return Ok(Some(known.clone()));
        }
        match runtime.container(&listed.id).await {
            Ok(detail) => {
                // "Created" may be followed by anything; the rest only moves on, which the comparison above notices.
                if detail.state != ContainerState::Created {
                    self.details.insert(detail.id.clone(), detail.clone());
                }
                Ok(Some(detail))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns a sandbox's address.
    pub(super) async fn address(&mut self, runtime: &dyn Runtime, id: &SandboxId) -> Option<IpAddr> {
        if let Some(address) = self.addresses.get(id) {
            return Some(*address);
        }
        let address = runtime.sandbox(id).await.ok()?.ip?;
        self.addresses.insert(id.clone(), address);
        Some(address)
    }
}
