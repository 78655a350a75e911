//! Stops containers: the hook before the signal, then the signal, all within one grace period.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use transport::outside::Outside;

use super::{Done, Worker};
use crate::events::{Events, Tone};
use crate::probes::{Handler, Target, run_handler};
use crate::runtime::{ContainerId, Runtime};

/// A container gets this much after its hook even when the hook used up the grace period (upstream's rule).
const GRACE_AFTER_HOOK: Duration = Duration::from_secs(2);

struct Stop {
    pod: Arc<Pod>,
    name: String,
    target: Option<Target>,
    id: ContainerId,
    runtime: Arc<dyn Runtime>,
    events: Events,
    outside: Arc<dyn Outside>,
    kill_at: Timestamp,
}

impl Worker {
    /// Stops a container in a task of its own.
    pub(super) fn spawn_stop(&mut self, pod: &Arc<Pod>, id: ContainerId, name: &str, kill_at: Timestamp) {
        let spec = pod
            .spec
            .iter()
            .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
        let container: Option<Container> = spec.into_iter().find(|container| container.name == name).cloned();
        let runtime = Arc::clone(&self.shared.runtime);
        let target = container.map(|spec| Target {
            container: id.clone(),
            ip: self.ip,
            spec,
            runtime: Arc::clone(&runtime),
        });
        let stop = Stop {
            pod: Arc::clone(pod),
            name: name.to_owned(),
            target,
            id,
            runtime,
            events: self.shared.events.clone(),
            outside: Arc::clone(self.shared.client.outside()),
            kill_at,
        };
        self.tasks.spawn(stop.run());
    }
}

impl Stop {
    async fn run(self) -> Done {
        let ran_hook = self.hook().await;
        let minimum = if ran_hook { GRACE_AFTER_HOOK } else { Duration::ZERO };
        let grace = self.remaining().max(minimum);
        if let Err(error) = self.runtime.stop_container(&self.id, grace).await {
            tracing::warn!(pod = ?self.pod.metadata.name, container = self.name, %error, "container is not stopped");
            // The core asks again at once; a runtime that fails fast must not be asked in a tight loop.
            tokio::time::sleep(super::RETRY).await;
        }
        Done::Stopped(self.id)
    }

    fn remaining(&self) -> Duration {
        Duration::try_from(self.kill_at.duration_since(self.outside.now())).unwrap_or_default()
    }

    /// Runs the hook; returns whether there was one. A failed hook does not stop the stop.
    async fn hook(&self) -> bool {
        let Some(target) = &self.target else { return false };
        let Some(hook) = target.spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref())
        else {
            return false;
        };
        let remaining = self.remaining();
        if remaining.is_zero() {
            return false;
        }
        if let Err(error) = run_handler(&Handler::of_hook(hook), target, remaining).await {
            self.events.pod(
                &self.pod,
                Some(&self.name),
                Tone::Warning,
                "FailedPreStopHook",
                format!("PreStopHook failed: {error}"),
            );
        }
        true
    }
}
