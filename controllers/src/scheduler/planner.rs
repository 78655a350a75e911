//! The scheduler's pure core: changes of the cluster in, decisions out.
//!
//! A pod is *assumed* on its node from the decision until a watch shows it bound or the binding fails, so that the next
//! decision counts it. Changes may arrive in any order relative to the answers of bindings; each is taken as the latest state
//! of that object, and answers for a pod that has moved on in the meantime are ignored.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{Node, Pod};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::catalog::Catalog;
use super::cycle::{Cycle, Outcome, SearchWidth};
use super::diagnosis::Diagnosis;
use super::framework::{ClusterEvent, PluginName};
use super::pod_info::{PodInfo, PodKey};
use super::queue::{Gate, PendingCounts, Queue};
use super::snapshot::Snapshot;

/// What is to be done for a pod.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Bind it; the planner counts it on the node already.
    Bind {
        /// The pod.
        pod: Arc<PodInfo>,
        /// Its node.
        node: Arc<str>,
    },
    /// Tell why it cannot run; it waits for a change of the cluster.
    Unschedulable {
        /// The pod.
        pod: Arc<PodInfo>,
        /// What ruled out the nodes.
        diagnosis: Diagnosis,
    },
}

/// How a binding ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingEnd {
    /// The pod is bound.
    Bound,
    /// It was refused, or its fate is not known; a second try is safe because a bound pod cannot be bound again. A pod or
    /// node that does not exist any more is left to the watch, which knows which of them it was.
    Failed,
}

/// The scheduler without its edges.
pub struct Planner {
    scheduler_name: String,
    snapshot: Snapshot,
    queue: Queue,
    cycle: Cycle,
    random: StdRng,
    /// Uids of pods that stand in the snapshot without a watch having shown them bound.
    assumed: HashMap<PodKey, String>,
}

impl Planner {
    /// Builds a planner for the pods that name `scheduler_name`; `seed` fixes how ties are broken.
    pub fn new(scheduler_name: String, width: SearchWidth, seed: u64) -> Self {
        Self {
            scheduler_name,
            snapshot: Snapshot::default(),
            queue: Queue::default(),
            cycle: Cycle::new(Catalog::default(), width),
            random: StdRng::seed_from_u64(seed),
            assumed: HashMap::new(),
        }
    }

    /// Returns the cluster as it is known now.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Returns how many pods wait where.
    pub fn pending(&self) -> PendingCounts {
        self.queue.counts()
    }

    /// Returns when `decide` is worth calling again without a change.
    pub fn next_wakeup(&self) -> Option<Instant> {
        self.queue.next_wakeup()
    }

    /// Takes over a new or changed node.
    pub fn set_node(&mut self, node: Arc<Node>, now: Instant) {
        let Some(name) = node.metadata.name.clone() else { return };
        let events = match self.snapshot.node(&name) {
            Some(known) => node_events(&known.node, &node),
            None => vec![ClusterEvent::NodeAdded],
        };
        self.snapshot.set_node(&name, node);
        events.into_iter().for_each(|event| self.wake(event, now));
    }

    /// Forgets a node.
    pub fn remove_node(&mut self, name: &str, now: Instant) {
        self.snapshot.remove_node(name);
        self.wake(ClusterEvent::NodeDeleted, now);
    }

    /// Takes over a new or changed pod.
    pub fn set_pod(&mut self, pod: Arc<Pod>, now: Instant) {
        let Some(pod) = PodInfo::new(pod).map(Arc::new) else { return };
        self.remove_predecessor(&pod, now);
        if pod.is_finished() {
            self.remove_pod(&pod.key, &pod.uid, now);
            return;
        }
        match pod.node_name().map(str::to_owned) {
            Some(node) => self.set_bound_pod(pod, &node, now),
            None if pod.scheduler_name() == self.scheduler_name => self.set_waiting_pod(pod, now),
            None => {}
        }
    }

    /// Forgets a pod that was deleted.
    pub fn remove_pod(&mut self, key: &PodKey, uid: &str, now: Instant) {
        if self.queue.contains(key, uid) {
            self.queue.remove(key);
        }
        if self.placed_uid(key).is_some_and(|placed| placed == uid) {
            self.release(key, now);
        }
    }

    /// Decides for the next pod; `None` when none is ready.
    pub fn decide(&mut self, now: Instant) -> Option<Decision> {
        let pod = self.queue.pop(now)?;
        match self.cycle.run(&pod, &self.snapshot, &mut self.random) {
            Outcome::Chosen(choice) => {
                self.snapshot.set_pod(pod.clone(), &choice.node);
                self.assumed.insert(pod.key.clone(), pod.uid.clone());
                Some(Decision::Bind { pod, node: choice.node })
            }
            Outcome::Unschedulable(diagnosis) => {
                self.queue.return_unschedulable(&pod.key, diagnosis.plugins(), now);
                Some(Decision::Unschedulable { pod, diagnosis })
            }
        }
    }

    /// Takes over how the binding of a decision ended.
    pub fn binding_ended(&mut self, pod: &PodInfo, end: BindingEnd, now: Instant) {
        let is_assumed = self.assumed.get(&pod.key).is_some_and(|uid| *uid == pod.uid);
        if !self.queue.contains(&pod.key, &pod.uid) {
            // A watch was faster: the pod is bound, finished or deleted, and counted as such.
            return;
        }
        match end {
            BindingEnd::Bound => self.queue.remove(&pod.key),
            BindingEnd::Failed => self.queue.return_failed(&pod.key, now),
        }
        if end != BindingEnd::Bound && is_assumed {
            self.release(&pod.key, now);
        }
    }

    /// Two pods can follow each other under one name without a deletion in between being seen.
    fn remove_predecessor(&mut self, pod: &PodInfo, now: Instant) {
        if self.placed_uid(&pod.key).is_some_and(|uid| uid != pod.uid) {
            self.release(&pod.key, now);
        }
    }

    fn set_bound_pod(&mut self, pod: Arc<PodInfo>, node: &str, now: Instant) {
        self.queue.remove(&pod.key);
        let was_assumed = self.assumed.remove(&pod.key).is_some();
        let known = self.snapshot.remove_pod(&pod.key);
        let event = match known {
            Some((known, on)) if !was_assumed && &*on == node => {
                if known.places_like(&pod) {
                    None
                } else {
                    Some(ClusterEvent::AssignedPodUpdated)
                }
            }
            Some((_, on)) if &*on != node => {
                // Somebody else bound it elsewhere: room became free where it was assumed.
                self.wake(ClusterEvent::AssignedPodDeleted, now);
                Some(ClusterEvent::AssignedPodAdded)
            }
            Some(_) | None => Some(ClusterEvent::AssignedPodAdded),
        };
        self.snapshot.set_pod(pod, node);
        if let Some(event) = event {
            self.wake(event, now);
        }
    }

    fn set_waiting_pod(&mut self, pod: Arc<PodInfo>, now: Instant) {
        let is_bound_already =
            self.assumed.contains_key(&pod.key) && !self.queue.contains(&pod.key, &pod.uid);
        if is_bound_already {
            // A version from before the binding, delivered after its answer.
            return;
        }
        if pod.is_terminating() && !self.assumed.contains_key(&pod.key) {
            self.queue.remove(&pod.key);
            return;
        }
        let is_admitted = self.cycle.catalog().pre_enqueue.iter().all(|plugin| plugin.admits(&pod));
        let gate = if is_admitted { Gate::Open } else { Gate::Closed };
        self.queue.set(pod, gate, now);
    }

    fn release(&mut self, key: &PodKey, now: Instant) {
        self.assumed.remove(key);
        if self.snapshot.remove_pod(key).is_some() {
            self.wake(ClusterEvent::AssignedPodDeleted, now);
        }
    }

    fn placed_uid(&self, key: &PodKey) -> Option<&str> {
        self.snapshot.pod(key).map(|pod| pod.uid.as_str())
    }

    /// A pod that no plugin rejected found no nodes at all; any event is good enough for it.
    fn wake(&mut self, event: ClusterEvent, now: Instant) {
        let filters = &self.cycle.catalog().filters;
        let waiting_plugins: BTreeSet<PluginName> = filters
            .iter()
            .filter(|plugin| plugin.wakes_on().contains(&event))
            .map(|plugin| plugin.name())
            .collect();
        self.queue.on_event(now, |_, rejected_by| {
            rejected_by.is_empty() || rejected_by.iter().any(|plugin| waiting_plugins.contains(plugin))
        });
    }
}

/// Returns what differs in what placement depends on; heartbeats change nothing of it.
fn node_events(old: &Node, new: &Node) -> Vec<ClusterEvent> {
    let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    let keeps_away = |node: &Node| {
        let spec = node.spec.as_ref();
        (spec.and_then(|spec| spec.taints.clone()), spec.and_then(|spec| spec.unschedulable).unwrap_or(false))
    };
    let differences = [
        (old.metadata.labels != new.metadata.labels, ClusterEvent::NodeLabelsChanged),
        (keeps_away(old) != keeps_away(new), ClusterEvent::NodeTaintsChanged),
        (allocatable(old) != allocatable(new), ClusterEvent::NodeAllocatableChanged),
    ];
    differences.into_iter().filter(|(differs, _)| *differs).map(|(_, event)| event).collect()
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;
