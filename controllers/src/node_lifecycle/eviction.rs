//! How long a pod may stay on a node with NoExecute taints. Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Taint, Toleration};

use super::taints::{NOT_READY, UNREACHABLE};

/// What admission gives pods that say nothing; pods with exactly this follow the configured timeout.
const DEFAULT_TOLERATION: Duration = Duration::from_secs(300);
/// Below this many not-ready nodes a share says nothing.
const UNHEALTHY_COUNT_MIN: usize = 3;

/// When pods leave, and when they must not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EvictionPolicy {
    /// Stay of pods that do not ask for another on nodes that are not ready or unreachable.
    pub timeout: Duration,
    /// Share of not-ready nodes from which evictions stop.
    pub unhealthy_percent_max: u8,
    /// Too many nodes are not ready: more likely we are cut off than they are dead.
    pub is_stopped: bool,
}

impl EvictionPolicy {
    /// Returns the policy for a cluster in this state.
    #[must_use]
    pub fn for_cluster(&self, unhealthy_count: usize, node_count: usize) -> Self {
        let over_share = unhealthy_count >= UNHEALTHY_COUNT_MIN
            && unhealthy_count * 100 >= node_count * usize::from(self.unhealthy_percent_max);
        Self { is_stopped: over_share || unhealthy_count >= node_count, ..self.clone() }
    }

    /// Returns how long the pod may still stay; zero is now, `None` is for ever.
    #[must_use]
    pub fn remaining(&self, pod: &Pod, taints: &[Taint], tainted_for: Duration) -> Option<Duration> {
        let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
        let stays = taints.iter().filter(|taint| taint.effect == "NoExecute");
        let shortest = stays.filter_map(|taint| self.stay(tolerations, taint)).min()?;
        Some(shortest.saturating_sub(tainted_for))
    }

    /// Returns how long one taint lets a pod stay; `None` is for ever.
    fn stay(&self, tolerations: &[Toleration], taint: &Taint) -> Option<Duration> {
        let ours = [NOT_READY, UNREACHABLE].contains(&taint.key.as_str());
        let mut tolerating = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).peekable();
        if tolerating.peek().is_none() {
            return Some(if ours { self.timeout } else { Duration::ZERO });
        }
        let seconds = tolerating.filter_map(|toleration| toleration.toleration_seconds).min()?;
        let asked = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        Some(if ours && asked == DEFAULT_TOLERATION { self.timeout } else { asked })
    }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let same_effect =
        toleration.effect.as_deref().is_none_or(|effect| effect.is_empty() || effect == taint.effect);
    let key = toleration.key.as_deref().unwrap_or_default();
    let exists = toleration.operator.as_deref() == Some("Exists");
    let same_key = key == taint.key || (key.is_empty() && exists);
    let same_value = exists
        || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    same_effect && same_key && same_value
}
