//! ReplicaSet: keeps the wanted number of pods that match a selector.
//!
//! Pods are counted from the cache only after this key's own writes are in it, so a pod is never made twice and never
//! deleted for one that is already on its way out.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Change, ObjectKey};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::ownership::{claim, workload_selector};
use crate::pods;
use crate::runtime::{Action, Caches, Context, Controller, Note, Plan};

/// Most pods that one plan makes or deletes.
const BURST_POD_COUNT: usize = 500;
/// Lower is deleted first; absent counts as 0.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Reads the caches for ReplicaSets.
#[derive(Debug)]
pub struct ReplicaSetController {
    pub caches: Caches,
}

/// What a decision about a ReplicaSet needs.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub set: Option<Arc<ReplicaSet>>,
    /// Every pod of the namespace.
    pub pods: Vec<Arc<Pod>>,
    /// Revision that `pods` is complete up to; makes idempotency keys of different decisions differ.
    pub pods_revision: u64,
}

impl Controller for ReplicaSetController {
    type Observed = Observed;

    const NAME: &'static str = "replicaset-controller";

    fn observe(&self, key: &ObjectKey) -> Observed {
        // The revision is read first: pods may then be newer than it says, never older.
        let pods_revision = self.caches.pods.revision();
        Observed {
            set: self.caches.replica_sets.get(&key.namespace, &key.name),
            pods: self.caches.pods.list_namespace(&key.namespace),
            pods_revision,
        }
    }

    fn reconcile(observed: &Observed, context: &Context) -> Plan {
        let Some(set) = &observed.set else { return Plan::nothing() };
        let Some(spec) = &set.spec else { return Plan::nothing() };
        let Some(selector) = workload_selector(&spec.selector) else { return Plan::nothing() };
        let claimed = claim(set.as_ref(), &selector, &observed.pods);
        let mut plan = Plan { actions: claimed.actions, ..Plan::default() };
        let active: Vec<Arc<Pod>> =
            claimed.managed.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
        // The status tells of what is, before what this plan changes; it is written first so that a failing create
        // cannot keep it back.
        write_status(set, spec, &Counted { managed: &claimed.managed, active: &active }, context, &mut plan);
        if set.metadata.deletion_timestamp.is_none() {
            scale(set, spec, active, observed.pods_revision, &mut plan);
        }
        plan
    }
}

/// Returns the ReplicaSets that a change of a pod concerns: its controller, or those that could adopt it.
#[must_use]
pub fn keys_of_pod(caches: &Caches, change: &Change<Pod>) -> Vec<ObjectKey> {
    let states = std::iter::once(&change.object).chain(change.old.as_ref());
    let mut keys: Vec<ObjectKey> = states
        .clone()
        .filter_map(|pod| pods::controller_of(pod.as_ref()))
        .filter(|owner| owner.kind == "ReplicaSet")
        .map(|owner| ObjectKey::new(&change.namespace, &owner.name))
        .collect();
    if pods::controller_of(change.object.as_ref()).is_none() {
        let sets = caches.replica_sets.list_namespace(&change.namespace);
        let adopters = sets.iter().filter(|set| {
            let selector = set.spec.as_ref().and_then(|spec| workload_selector(&spec.selector));
            selector.is_some_and(|selector| selector.matches(change.object.metadata.labels.as_ref()))
        });
        keys.extend(adopters.map(|set| ObjectKey::of(set.as_ref())));
    }
    keys
}

fn scale(
    set: &ReplicaSet,
    spec: &ReplicaSetSpec,
    mut active: Vec<Arc<Pod>>,
    pods_revision: u64,
    plan: &mut Plan,
) {
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    if active.len() < wanted {
        let count = (wanted - active.len()).min(BURST_POD_COUNT);
        plan.actions.extend((0..count).map(|slot| create_pod(set, spec, pods_revision, slot)));
    } else if active.len() > wanted {
        let count = (active.len() - wanted).min(BURST_POD_COUNT);
        rank_for_deletion(&mut active);
        plan.actions.extend(active.iter().take(count).map(|pod| delete_pod(set, pod)));
    }
}

fn create_pod(set: &ReplicaSet, spec: &ReplicaSetSpec, pods_revision: u64, slot: usize) -> Action {
    let template = spec.template.clone().unwrap_or_default();
    let template_metadata = template.metadata.unwrap_or_default();
    let set_name = set.metadata.name.as_deref().unwrap_or_default();
    let pod = Pod {
        metadata: ObjectMeta {
            namespace: set.metadata.namespace.clone(),
            generate_name: Some(format!("{set_name}-")),
            labels: template_metadata.labels,
            annotations: template_metadata.annotations,
            finalizers: template_metadata.finalizers,
            owner_references: Some(vec![pods::controller_reference(set)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    };
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    let generation = set.metadata.generation.unwrap_or(0);
    Action::create(&pod, format!("{uid}.{generation}.{pods_revision}.{slot}"))
        .on_success(Note::normal(set, "SuccessfulCreate", "Created pod: {name}"))
        .on_failure(Note::warning(set, "FailedCreate", "Error creating: {error}"))
}

fn delete_pod(set: &ReplicaSet, pod: &Pod) -> Action {
    Action::delete(pod)
        .on_success(Note::normal(set, "SuccessfulDelete", "Deleted pod: {name}"))
        .on_failure(Note::warning(set, "FailedDelete", "Error deleting: {error}"))
}

/// Sorts so that the pods that users miss least come first, in upstream's order of criteria.
fn rank_for_deletion(active: &mut [Arc<Pod>]) {
    let mut pods_on_node: HashMap<String, usize> = HashMap::new();
    for pod in active.iter() {
        *pods_on_node.entry(pods::node_name(pod).to_owned()).or_default() += 1;
    }
    active.sort_by_cached_key(|pod| {
        let assigned = !pods::node_name(pod).is_empty();
        let phase = match pods::phase(pod) {
            "Running" => 2_u8,
            "Unknown" => 1,
            _ => 0,
        };
        let neighbours = pods_on_node.get(pods::node_name(pod)).copied().unwrap_or(0);
        (
            (assigned, phase, pods::is_ready(pod), deletion_cost(pod)),
            // More replicas on one node are missed less; younger readiness, more restarts and younger pods too.
            Reverse(neighbours),
            Reverse(pods::ready_since(pod)),
            Reverse(restart_count(pod)),
            Reverse(pod.metadata.creation_timestamp.as_ref().map(|time| time.0)),
            pod.metadata.name.clone(),
        )
    });
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|annotations| annotations.get(DELETION_COST)?.parse().ok()).unwrap_or(0)
}

fn restart_count(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).max().unwrap_or(0)
}

/// The pods that a status tells of.
struct Counted<'a> {
    managed: &'a [Arc<Pod>],
    active: &'a [Arc<Pod>],
}

fn write_status(
    set: &ReplicaSet,
    spec: &ReplicaSetSpec,
    counted: &Counted<'_>,
    context: &Context,
    plan: &mut Plan,
) {
    let Counted { managed, active } = counted;
    let min_ready = Duration::from_secs(u64::try_from(spec.min_ready_seconds.unwrap_or(0)).unwrap_or(0));
    let mut available_count = 0;
    for pod in *active {
        match remaining_until_available(pod, min_ready, context.now) {
            Some(Duration::ZERO) => available_count += 1,
            Some(remaining) => plan.look_again(remaining),
            None => {}
        }
    }
    let template_labels =
        spec.template.as_ref().and_then(|template| template.metadata.as_ref()?.labels.clone());
    let fully_labeled = active.iter().filter(|pod| {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        template_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
    });
    let terminating =
        managed.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some() && !pods::is_terminal(pod));
    let old = set.status.clone().unwrap_or_default();
    let new = ReplicaSetStatus {
        replicas: number(active.len()),
        fully_labeled_replicas: some_if_positive(fully_labeled.count()),
        ready_replicas: some_if_positive(active.iter().filter(|pod| pods::is_ready(pod)).count()),
        available_replicas: some_if_positive(available_count),
        terminating_replicas: Some(number(terminating.count())),
        observed_generation: set.metadata.generation,
        conditions: conditions(old.conditions.clone(), context),
    };
    if new != old {
        let mut set = ReplicaSet::clone(set);
        set.status = Some(new);
        plan.actions.push(Action::update_status(&set));
    }
}

/// Returns how long a ready pod must stay ready to count as available; `None` while it is not ready.
fn remaining_until_available(pod: &Pod, min_ready: Duration, now: Timestamp) -> Option<Duration> {
    if !pods::is_ready(pod) {
        return None;
    }
    if min_ready.is_zero() {
        return Some(Duration::ZERO);
    }
    let ready_for = Duration::try_from(now.duration_since(pods::ready_since(pod)?)).unwrap_or_default();
    Some(min_ready.saturating_sub(ready_for))
}

fn conditions(old: Option<Vec<ReplicaSetCondition>>, context: &Context) -> Option<Vec<ReplicaSetCondition>> {
    let old = old.unwrap_or_default();
    let mut new: Vec<_> =
        old.iter().filter(|condition| condition.type_ != "ReplicaFailure").cloned().collect();
    if let Some(failure) = &context.last_failure {
        let since = old.iter().find(|condition| condition.type_ == "ReplicaFailure");
        new.push(ReplicaSetCondition {
            type_: "ReplicaFailure".to_owned(),
            status: "True".to_owned(),
            reason: Some("FailedCreate".to_owned()),
            message: Some(failure.clone()),
            last_transition_time: since
                .and_then(|condition| condition.last_transition_time.clone())
                .or(Some(Time(context.now))),
        });
    }
    (!new.is_empty()).then_some(new)
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn some_if_positive(count: usize) -> Option<i32> {
    (count > 0).then(|| number(count))
}

#[cfg(test)]
mod tests;
