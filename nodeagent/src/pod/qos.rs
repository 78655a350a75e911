//! Quality of service: which class a pod has, where its cgroup is, and how the out-of-memory killer sees its containers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use proto::api::quantity::Quantity;

use crate::runtime::Resources;

/// Upstream's score of guaranteed containers.
const GUARANTEED_SCORE: i64 = -997;
/// Upstream's score of containers without any request.
const BEST_EFFORT_SCORE: i64 = 1000;
/// Scores of burstable containers stay between the other two classes.
const BURSTABLE_SCORES: (i64, i64) = (2, 999);
/// The kernel's smallest CPU weight.
const SHARES_MIN: i64 = 2;
/// The kernel's smallest quota.
const QUOTA_MIN_US: i64 = 1000;

/// A pod's class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QosClass {
    /// Limits equal requests for CPU and memory of every container.
    Guaranteed,
    /// Anything between.
    Burstable,
    /// No requests and no limits.
    BestEffort,
}

impl QosClass {
    /// Returns the class of a pod.
    #[must_use]
    pub fn of(spec: &PodSpec) -> Self {
        let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
        if containers().all(|container| {
            ["cpu", "memory"]
                .iter()
                .all(|name| request(container, name).is_none() && limit(container, name).is_none())
        }) {
            return Self::BestEffort;
        }
        let guaranteed = containers().all(|container| {
            ["cpu", "memory"].iter().all(|name| {
                limit(container, name).is_some_and(|limit| request(container, name).unwrap_or(limit) == limit)
            })
        });
        if guaranteed { Self::Guaranteed } else { Self::Burstable }
    }

    /// Returns the name that status and API use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// Returns the pod's cgroup below the agent's prefix.
    #[must_use]
    pub fn cgroup(self, prefix: &str, uid: &str) -> String {
        match self {
            Self::Guaranteed => format!("{prefix}/kubepods/pod{uid}"),
            Self::Burstable => format!("{prefix}/kubepods/burstable/pod{uid}"),
            Self::BestEffort => format!("{prefix}/kubepods/besteffort/pod{uid}"),
        }
    }
}

fn amount(values: Option<&BTreeMap<String, ApiQuantity>>, name: &str) -> Option<Quantity> {
    let quantity: Quantity = values?.get(name)?.0.parse().ok()?;
    (!quantity.is_zero()).then_some(quantity)
}

fn request(container: &Container, name: &str) -> Option<Quantity> {
    amount(container.resources.as_ref()?.requests.as_ref(), name)
}

fn limit(container: &Container, name: &str) -> Option<Quantity> {
    amount(container.resources.as_ref()?.limits.as_ref(), name)
}

/// Returns a container's limits in the kernel's units. Missing requests follow the limits, as the API's defaults have it.
#[must_use]
pub fn resources(pod: &Pod, container: &Container, node_memory_bytes: i64) -> Resources {
    let cpu_request = request(container, "cpu").or_else(|| limit(container, "cpu"));
    let cpu_shares =
        cpu_request.map_or(SHARES_MIN, |cpu| (cpu.millis().saturating_mul(1024) / 1000).max(SHARES_MIN));
    let quota = limit(container, "cpu").map(|cpu| {
        let quota = cpu.millis().saturating_mul(Resources::CPU_PERIOD_US) / 1000;
        quota.max(QUOTA_MIN_US)
    });
    let class = pod.spec.as_ref().map_or(QosClass::BestEffort, QosClass::of);
    Resources {
        cpu_shares: Some(cpu_shares),
        cpu_quota_us: quota,
        memory_limit_bytes: limit(container, "memory").map(Quantity::units),
        oom_score_adj: oom_score(class, container, node_memory_bytes),
    }
}

fn oom_score(class: QosClass, container: &Container, node_memory_bytes: i64) -> i64 {
    match class {
        QosClass::Guaranteed => GUARANTEED_SCORE,
        QosClass::BestEffort => BEST_EFFORT_SCORE,
        QosClass::Burstable => {
            let memory = request(container, "memory").map_or(0, Quantity::units);
            let share = memory.saturating_mul(1000).checked_div(node_memory_bytes).unwrap_or(0);
            let (lowest, highest) = BURSTABLE_SCORES;
            (1000 - share).clamp(lowest, highest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(resources: serde_json::Value, class: QosClass, score: i64) {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {}, "spec": { "containers": [{ "name": "a", "resources": resources }] }
        }))
        .unwrap();
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(QosClass::of(spec), class);
        assert_eq!(super::resources(&pod, &spec.containers[0], 1 << 30).oom_score_adj, score);
    }

    #[test]
    fn classes_and_scores_follow_requests_and_limits() {
        check(json!({}), QosClass::BestEffort, 1000);
        check(json!({ "limits": { "cpu": "1", "memory": "1Gi" } }), QosClass::Guaranteed, -997);
        check(json!({ "requests": { "cpu": "100m" } }), QosClass::Burstable, 999);
        check(
            json!({ "requests": { "memory": "512Mi" }, "limits": { "memory": "1Gi" } }),
            QosClass::Burstable,
            500,
        );
    }

    #[test]
    fn kernel_units() {
        let pod: Pod = serde_json::from_value(json!({ "metadata": {}, "spec": { "containers": [{ "name": "a",
            "resources": { "requests": { "cpu": "250m" }, "limits": { "cpu": "500m", "memory": "64Mi" } } }] } }))
        .unwrap();
        let resources = resources(&pod, &pod.spec.as_ref().unwrap().containers[0], 1 << 30);
        assert_eq!(resources.cpu_shares, Some(256));
        assert_eq!(resources.cpu_quota_us, Some(50_000));
        assert_eq!(resources.memory_limit_bytes, Some(64 << 20));
    }
}
