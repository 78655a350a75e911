//! Removes pods that nothing will ever finish: those of nodes that are gone, and deleted ones that never had a node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::ObjectKey;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use crate::pods;
use crate::runtime::{Action, Caches, Context, Controller, Plan};

/// Reads the caches for pods.
#[derive(Debug)]
pub struct PodGcController {
    pub caches: Caches,
    /// How long a node must be gone before its pods are removed: it may only be registering again.
    pub quarantine: Duration,
    /// Since when this leader misses nodes that pods name.
    pub missing_since: Mutex<HashMap<String, Instant>>,
}

/// What a decision about a pod needs.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub pod: Option<Arc<Pod>>,
    /// How long the pod's node has been missing; `None` while it exists or the pod has none.
    pub node_missing_for: Option<Duration>,
    pub quarantine: Duration,
}

impl Controller for PodGcController {
    type Observed = Observed;

    const NAME: &'static str = "pod-garbage-collector-controller";

    fn observe(&self, key: &ObjectKey) -> Observed {
        let pod = self.caches.pods.get(&key.namespace, &key.name);
        let node = pod.as_deref().map(pods::node_name).filter(|node| !node.is_empty());
        let node_missing_for = node.and_then(|node| self.missing_for(node));
        Observed { pod, node_missing_for, quarantine: self.quarantine }
    }

    fn reconcile(observed: &Observed, _context: &Context) -> Plan {
        let Some(pod) = &observed.pod else { return Plan::nothing() };
        let remove = Plan { actions: vec![Action::delete_now(pod.as_ref())], ..Plan::default() };
        match observed.node_missing_for {
            Some(missing) if missing >= observed.quarantine => remove,
            Some(missing) => {
                Plan { requeue_after: Some(observed.quarantine.saturating_sub(missing)), ..Plan::default() }
            }
            None if pods::node_name(pod).is_empty() && pod.metadata.deletion_timestamp.is_some() => remove,
            None => Plan::nothing(),
        }
    }
}

impl PodGcController {
    fn missing_for(&self, node: &str) -> Option<Duration> {
        let mut missing_since = self.missing_since.lock().unwrap_or_else(PoisonError::into_inner);
        if self.caches.nodes.get("", node).is_some() {
            missing_since.remove(node);
            return None;
        }
        Some(missing_since.entry(node.to_owned()).or_insert_with(Instant::now).elapsed())
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::api::core::v1::PodSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn check(node: Option<&str>, deleted: bool, missing: Option<u64>, expected: (usize, Option<u64>)) {
        let spec = Some(PodSpec { node_name: node.map(str::to_owned), ..PodSpec::default() });
        let mut pod = Pod { spec, ..Pod::default() };
        pod.metadata.deletion_timestamp = deleted.then_some(Time(Timestamp::UNIX_EPOCH));
        let observed = Observed {
            pod: Some(Arc::new(pod)),
            node_missing_for: missing.map(Duration::from_secs),
            quarantine: Duration::from_secs(40),
        };
        let plan = PodGcController::reconcile(
            &observed,
            &Context { now: Timestamp::UNIX_EPOCH, last_failure: None },
        );
        assert_eq!((plan.actions.len(), plan.requeue_after.map(|after| after.as_secs())), expected);
    }

    #[test]
    fn only_pods_without_a_future_are_removed() {
        check(Some("n"), false, None, (0, None));
        check(Some("n"), true, None, (0, None));
        check(Some("n"), false, Some(10), (0, Some(30)));
        check(Some("n"), false, Some(40), (1, None));
        check(None, false, None, (0, None));
        check(None, true, None, (1, None));
    }
}
