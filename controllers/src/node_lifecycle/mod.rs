//! Nodes that fall silent: their state becomes unknown, they are tainted, and their pods are replaced elsewhere.
//!
//! [`monitor`] measures silence with this leader's own monotonic clock, from the last heartbeat that it saw itself: clocks
//! of nodes and the time before this tenure never count. [`taints`] and [`eviction`] are pure.

mod eviction;
mod monitor;
mod taints;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::{Change, ObjectKey};
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::args::Config;
use crate::metrics::Metrics;
use crate::pods;
use crate::runtime::{Action, Caches, Context, Controller, Note, Plan};
pub use eviction::EvictionPolicy;
pub(crate) use monitor::Monitor;

/// Conditions that only the node itself can vouch for.
const NODE_CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// How soon to look again while evictions are stopped.
const STOPPED_PAUSE: Duration = Duration::from_secs(10);

/// Reads the caches for nodes and their heartbeats.
#[derive(Debug)]
pub struct NodeLifecycleController {
    caches: Caches,
    monitor: Monitor,
    grace: Duration,
    eviction: EvictionPolicy,
    metrics: Metrics,
}

/// What a decision about a node needs.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub node: Option<Arc<Node>>,
    /// How long this leader has seen no heartbeat.
    pub silence: Duration,
    /// Silence after which nobody knows the node's state.
    pub grace: Duration,
    /// How long this leader has seen the node not ready.
    pub not_ready_for: Duration,
    /// Pods bound to the node; only read while it is not ready.
    pub pods: Vec<Arc<Pod>>,
    pub eviction: EvictionPolicy,
}

impl NodeLifecycleController {
    /// Returns a controller that has seen no heartbeat yet.
    #[must_use]
    pub fn new(caches: Caches, config: &Config) -> Self {
        Self {
            caches,
            monitor: Monitor::default(),
            grace: config.node_monitor_grace,
            eviction: EvictionPolicy {
                timeout: config.pod_eviction_timeout,
                unhealthy_percent_max: config.unhealthy_nodes_percent_max,
                is_stopped: false,
            },
            metrics: config.metrics.clone(),
        }
    }
}

impl Controller for NodeLifecycleController {
    type Observed = Observed;

    const NAME: &'static str = "node-controller";

    fn observe(&self, key: &ObjectKey) -> Observed {
        let Some(node) = self.caches.nodes.get("", &key.name) else {
            self.monitor.forget(&key.name);
            return Observed::default();
        };
        let heartbeat = monitor::heartbeat(&self.caches, &node);
        let is_ready = is_ready(&node);
        let (silence, not_ready_for) = self.monitor.observe(&key.name, heartbeat, is_ready);
        let nodes = self.caches.nodes.list();
        let unhealthy_count = nodes.iter().filter(|node| !self::is_ready(node)).count();
        self.metrics.nodes_not_ready.set(i64::try_from(unhealthy_count).unwrap_or(i64::MAX));
        let mut pods = Vec::new();
        if !is_ready {
            pods = self.caches.pods.list();
            pods.retain(|pod| pods::node_name(pod) == key.name);
        }
        let eviction = self.eviction.for_cluster(unhealthy_count, nodes.len());
        Observed { node: Some(node), silence, grace: self.grace, not_ready_for, pods, eviction }
    }

    fn reconcile(observed: &Observed, context: &Context) -> Plan {
        let Some(node) = &observed.node else { return Plan::nothing() };
        if observed.silence >= observed.grace && ready_status(node) != Some("Unknown") {
            return lose_contact(node, context);
        }
        let mut plan = Plan::nothing();
        if observed.silence < observed.grace {
            plan.look_again(observed.grace.saturating_sub(observed.silence));
        }
        let wanted = taints::wanted(node, context.now);
        if wanted != node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default() {
            let mut node = Node::clone(node);
            node.spec.get_or_insert_default().taints = Some(wanted);
            plan.actions.push(Action::update(&node));
            return plan;
        }
        if ready_status(node) == Some("Unknown") {
            plan.actions.extend(observed.pods.iter().filter_map(|pod| not_ready_any_more(pod, context)));
        }
        evict(node, observed, &mut plan);
        plan
    }
}

/// Returns the node that a pod is bound to, if it is not ready: its pods must be looked at again.
#[must_use]
pub fn keys_of_pod(caches: &Caches, change: &Change<Pod>) -> Vec<ObjectKey> {
    let node = caches.nodes.get("", pods::node_name(&change.object));
    node.filter(|node| !is_ready(node)).map(|node| ObjectKey::of(node.as_ref())).into_iter().collect()
}

fn ready_condition(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == "Ready")
}

fn ready_status(node: &Node) -> Option<&str> {
    ready_condition(node).map(|condition| condition.status.as_str())
}

fn is_ready(node: &Node) -> bool {
    ready_status(node) == Some("True")
}

fn lose_contact(node: &Arc<Node>, context: &Context) -> Plan {
    let mut lost = Node::clone(node);
    let conditions = lost.status.get_or_insert_default().conditions.get_or_insert_default();
    for name in NODE_CONDITIONS {
        let present = conditions.iter().position(|condition| condition.type_ == name);
        let known_since = present.and_then(|index| conditions.get(index)?.last_heartbeat_time.clone());
        let unknown = NodeCondition {
            type_: name.to_owned(),
            status: "Unknown".to_owned(),
            reason: Some(
                if present.is_some() { "NodeStatusUnknown" } else { "NodeStatusNeverUpdated" }.to_owned(),
            ),
            message: Some("Kubelet stopped posting node status.".to_owned()),
            last_heartbeat_time: known_since,
            last_transition_time: Some(Time(context.now)),
        };
        match present.and_then(|index| conditions.get_mut(index)) {
            Some(condition) => *condition = unknown,
            None => conditions.push(unknown),
        }
    }
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let note =
        Note::normal(node.as_ref(), "NodeNotReady", format!("Node {name} status is now: NodeNotReady"));
    Plan { actions: vec![Action::update_status(&lost)], notes: vec![note], requeue_after: None }
}

/// Takes a pod of a lost node out of its services at once.
fn not_ready_any_more(pod: &Arc<Pod>, context: &Context) -> Option<Action> {
    if !pods::is_ready(pod) {
        return None;
    }
    let mut pod = Pod::clone(pod);
    let conditions = pod.status.as_mut()?.conditions.as_mut()?;
    let ready: &mut PodCondition = conditions.iter_mut().find(|condition| condition.type_ == "Ready")?;
    ready.status = "False".to_owned();
    ready.last_transition_time = Some(Time(context.now));
    Some(Action::update_status(&pod))
}

fn evict(node: &Node, observed: &Observed, plan: &mut Plan) {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let present = observed.pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    for pod in present {
        match observed.eviction.remaining(pod, &taints, observed.not_ready_for) {
            None => {}
            Some(_) if observed.eviction.is_stopped => plan.look_again(STOPPED_PAUSE),
            Some(Duration::ZERO) => {
                let message = "Marking for deletion Pod {name}";
                let note = Note::normal(pod.as_ref(), "TaintManagerEviction", message);
                plan.actions.push(Action::delete(pod.as_ref()).on_success(note));
            }
            Some(remaining) => plan.look_again(remaining),
        }
    }
}
