//! One topology spread constraint, read for one pod: its domains' label, its limit, and which pods and nodes count.

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use proto::api::labels::Selector;

use super::node_affinity::Required;
use super::taints;
use crate::scheduler::pod_info::PodInfo;
use crate::scheduler::snapshot::NodeInfo;

/// Label whose domains are single nodes.
pub const HOSTNAME_LABEL: &str = "kubernetes.io/hostname";
/// Label whose domains are zones.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// Largest skew between nodes that the cluster's default accepts without a lower score.
const DEFAULT_HOSTNAME_SKEW: i64 = 3;
/// The same between zones.
const DEFAULT_ZONE_SKEW: i64 = 5;

/// What happens to a node that would break a constraint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenUnsatisfiable {
    /// It is ruled out.
    DoNotSchedule,
    /// It scores lower.
    ScheduleAnyway,
}

/// A constraint as filters and scores use it.
pub struct Constraint<'a> {
    /// Nodes with one value of this label are a domain.
    pub topology_key: &'a str,
    /// Largest accepted distance between the fullest domain and the emptiest.
    pub max_skew: i64,
    /// With fewer domains than this the emptiest counts as empty.
    pub min_domains: usize,
    counted: CountedPods<'a>,
    honors_affinity: bool,
    honors_taints: bool,
    pod: &'a PodInfo,
}

/// Which pods a constraint counts, always in the pod's own namespace.
enum CountedPods<'a> {
    /// Those that match the constraint's selector and share these labels of the pod.
    Matching {
        selector: Selector,
        shared: Vec<(&'a str, &'a str)>,
    },
    /// Those of the same controller: the cluster's default.
    OfController(&'a str),
    Nothing,
}

impl<'a> Constraint<'a> {
    /// Returns the pod's own constraints of one kind.
    pub fn of_pod(pod: &'a PodInfo, kind: WhenUnsatisfiable) -> Vec<Self> {
        let wanted = match kind {
            WhenUnsatisfiable::DoNotSchedule => "DoNotSchedule",
            WhenUnsatisfiable::ScheduleAnyway => "ScheduleAnyway",
        };
        let all = pod.spec.topology_spread_constraints.iter().flatten();
        all.filter(|constraint| constraint.when_unsatisfiable == wanted)
            .map(|constraint| Self::read(pod, constraint))
            .collect()
    }

    /// Returns the cluster's default for a pod without constraints: its controller's pods spread over nodes and zones,
    /// softly. A pod without a controller has none.
    pub fn defaults(pod: &'a PodInfo) -> Vec<Self> {
        let Some(controller) = pod.controller_uid.as_deref() else { return Vec::new() };
        let constraint = |topology_key, max_skew| Self {
            topology_key,
            max_skew,
            min_domains: 1,
            counted: CountedPods::OfController(controller),
            honors_affinity: true,
            honors_taints: false,
            pod,
        };
        vec![constraint(HOSTNAME_LABEL, DEFAULT_HOSTNAME_SKEW), constraint(ZONE_LABEL, DEFAULT_ZONE_SKEW)]
    }

    fn read(pod: &'a PodInfo, constraint: &'a TopologySpreadConstraint) -> Self {
        let honors = |policy: &Option<String>, default: &str| policy.as_deref().unwrap_or(default) == "Honor";
        Self {
            topology_key: &constraint.topology_key,
            max_skew: i64::from(constraint.max_skew),
            min_domains: usize::try_from(constraint.min_domains.unwrap_or(1)).unwrap_or(1),
            counted: CountedPods::read(pod, constraint),
            honors_affinity: honors(&constraint.node_affinity_policy, "Honor"),
            honors_taints: honors(&constraint.node_taints_policy, "Ignore"),
            pod,
        }
    }

    /// Returns the domain that a node is in.
    pub fn domain<'n>(&self, node: &'n NodeInfo) -> Option<&'n str> {
        node.label(self.topology_key)
    }

    /// Returns true when the pods of a node count: by default those of every node that the pod's affinity allows.
    pub fn counts_node(&self, node: &NodeInfo) -> bool {
        (!self.honors_affinity || Required::new(self.pod).matches(node))
            && (!self.honors_taints || taints::first_untolerated(self.pod, node).is_none())
    }

    /// Returns how many pods of a node count.
    pub fn count(&self, node: &NodeInfo) -> i64 {
        match &self.counted {
            CountedPods::OfController(controller) => node.pods_of_controller(controller),
            CountedPods::Nothing => 0,
            CountedPods::Matching { .. } => {
                let counted = node.pods().filter(|pod| !pod.is_terminating() && self.counts_pod(pod));
                i64::try_from(counted.count()).unwrap_or(i64::MAX)
            }
        }
    }

    /// Returns true when the pod itself will count once it is placed.
    pub fn counts_itself(&self) -> bool {
        self.counts_pod(self.pod)
    }

    fn counts_pod(&self, pod: &PodInfo) -> bool {
        let label = |key: &str| pod.pod.metadata.labels.as_ref()?.get(key).map(String::as_str);
        match &self.counted {
            CountedPods::Matching { selector, shared } => {
                pod.key.namespace == self.pod.key.namespace
                    && selector.matches_with(label)
                    && shared.iter().all(|(key, value)| label(key) == Some(*value))
            }
            CountedPods::OfController(controller) => pod.controller_uid.as_deref() == Some(*controller),
            CountedPods::Nothing => false,
        }
    }
}

impl<'a> CountedPods<'a> {
    /// A missing, empty or unreadable selector counts no pods.
    fn read(pod: &'a PodInfo, constraint: &'a TopologySpreadConstraint) -> Self {
        let value = serde_json::to_value(&constraint.label_selector);
        let Some(selector) = value.ok().and_then(|value| Selector::from_value(&value).ok()) else {
            return Self::Nothing;
        };
        let labels = pod.pod.metadata.labels.as_ref();
        let keys = constraint.match_label_keys.iter().flatten();
        let shared: Vec<_> =
            keys.filter_map(|key| Some((key.as_str(), labels?.get(key)?.as_str()))).collect();
        if selector == Selector::Nothing || (selector.is_everything() && shared.is_empty()) {
            return Self::Nothing;
        }
        Self::Matching { selector, shared }
    }
}
