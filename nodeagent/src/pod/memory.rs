//! What the worker learned about its pod and the runtime cannot tell.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::backoff::Backoff;
use super::probe_state::{Verdict, Verdicts};
use crate::runtime::ContainerId;

/// Why a container does not run although it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// One word: `ErrImagePull`, `CreateContainerConfigError`, ….
    pub reason: String,
    /// What a person needs to know.
    pub message: String,
    /// When it happened.
    pub at: Timestamp,
}

/// A container that is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopping {
    /// When it will be killed at the latest.
    pub kill_at: Timestamp,
}

/// The worker's memory of its pod; lost with the agent, so nothing here may be needed for safety.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Restarts of containers, by name.
    pub restarts: BTreeMap<String, Backoff>,
    /// Failed starts of containers, by name, until one succeeds.
    pub failures: BTreeMap<String, Waiting>,
    /// Back-off of failed starts, by name.
    pub start_backoffs: BTreeMap<String, Backoff>,
    /// The last failed sandbox.
    pub sandbox_failure: Option<Waiting>,
    /// Back-off of failed sandboxes.
    pub sandbox_backoff: Backoff,
    /// Probe verdicts, by container.
    pub verdicts: BTreeMap<ContainerId, Verdicts>,
    /// Containers that are being stopped now.
    pub stopping: BTreeMap<ContainerId, Stopping>,
    /// First attempt number that a name may use when the runtime holds none of its containers.
    pub first_attempts: BTreeMap<String, u32>,
    /// When the deletion was first seen here.
    pub terminating_since: Option<Timestamp>,
    /// Whether the pod reached a terminal phase; it then never starts anything again.
    pub ended: bool,
}

impl Memory {
    /// Returns the memory of a worker that has just started, from the status in the API: a container that ran before continues
    /// its count, one that was ready stays so until its probe says otherwise, and a pod that ended stays ended.
    #[must_use]
    pub fn new(pod: &Pod) -> Self {
        let mut memory = Self::default();
        let Some(status) = &pod.status else { return memory };
        memory.ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let all =
            status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
        for container in all {
            // Spelled `runtime://id`.
            let Some((_, id)) = container.container_id.as_deref().and_then(|id| id.split_once("://")) else {
                continue;
            };
            let next = u32::try_from(container.restart_count).unwrap_or(0).saturating_add(1);
            memory.first_attempts.insert(container.name.clone(), next);
            memory.verdicts.insert(ContainerId(id.to_owned()), known_verdicts(container));
        }
        memory
    }
}

/// What the probes of a container must have said for its status to be as it is. Liveness is not part of a status.
fn known_verdicts(container: &ContainerStatus) -> Verdicts {
    let verdict = |holds: bool| if holds { Verdict::Success } else { Verdict::Unknown };
    Verdicts {
        startup: verdict(container.started == Some(true)),
        liveness: Verdict::Unknown,
        readiness: verdict(container.ready),
    }
}
