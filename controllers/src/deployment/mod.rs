//! Deployment: one ReplicaSet per pod template, and a controlled move from the old ones to the new.
//!
//! [`revision`] finds or makes the ReplicaSet of the present template and numbers the history; [`rollout`] decides how
//! many replicas each set has (pure arithmetic); [`status`] counts and states conditions. Everything is decided on
//! copies of the observed sets; sets that differ from what was observed are written once at the end.

mod revision;
mod rollout;
mod status;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use client::{Change, ObjectKey};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;

use crate::ownership::{claim, workload_selector};
use crate::pods;
use crate::runtime::{Action, Caches, Context, Controller, Note, Plan};

/// Reads the caches for Deployments.
#[derive(Debug)]
pub struct DeploymentController {
    pub caches: Caches,
}

/// What a decision about a Deployment needs.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub deployment: Option<Arc<Deployment>>,
    /// Every ReplicaSet of the namespace.
    pub replica_sets: Vec<Arc<ReplicaSet>>,
    /// Every pod of the namespace; only `Recreate` looks at them.
    pub pods: Vec<Arc<Pod>>,
}

impl Controller for DeploymentController {
    type Observed = Observed;

    const NAME: &'static str = "deployment-controller";

    fn observe(&self, key: &ObjectKey) -> Observed {
        let deployment = self.caches.deployments.get(&key.namespace, &key.name);
        let recreates = deployment.as_deref().is_some_and(rollout::recreates);
        let pods = if recreates { self.caches.pods.list_namespace(&key.namespace) } else { Vec::new() };
        Observed { deployment, replica_sets: self.caches.replica_sets.list_namespace(&key.namespace), pods }
    }

    fn reconcile(observed: &Observed, context: &Context) -> Plan {
        let Some(deployment) = &observed.deployment else { return Plan::nothing() };
        let Some(spec) = &deployment.spec else { return Plan::nothing() };
        let Some(selector) = workload_selector(&spec.selector) else {
            let note = Note::warning(
                deployment.as_ref(),
                "SelectingAll",
                "This deployment is selecting all pods. A non-empty selector is required.",
            );
            return Plan { notes: vec![note], ..Plan::default() };
        };
        let claimed = claim(deployment.as_ref(), &selector, &observed.replica_sets);
        if !claimed.actions.is_empty() {
            // Adopted sets are written again below; their new revision must be seen first.
            return Plan { actions: claimed.actions, ..Plan::default() };
        }
        let mut round = Round::new(deployment, spec, &claimed.managed);
        if deployment.metadata.deletion_timestamp.is_none() {
            roll(&mut round, observed);
        }
        status::write(&mut round, context);
        round.plan()
    }
}

/// Returns the Deployments that a change of a ReplicaSet concerns.
#[must_use]
pub fn keys_of_replica_set(caches: &Caches, change: &Change<ReplicaSet>) -> Vec<ObjectKey> {
    let states = std::iter::once(&change.object).chain(change.old.as_ref());
    let mut keys: Vec<ObjectKey> = states
        .filter_map(|set| pods::controller_of(set.as_ref()))
        .filter(|owner| owner.kind == "Deployment")
        .map(|owner| ObjectKey::new(&change.namespace, &owner.name))
        .collect();
    if pods::controller_of(change.object.as_ref()).is_none() {
        let deployments = caches.deployments.list_namespace(&change.namespace);
        let adopters = deployments.iter().filter(|deployment| {
            let selector = deployment.spec.as_ref().and_then(|spec| workload_selector(&spec.selector));
            selector.is_some_and(|selector| selector.matches(change.object.metadata.labels.as_ref()))
        });
        keys.extend(adopters.map(|deployment| ObjectKey::of(deployment.as_ref())));
    }
    keys
}

/// Returns the Deployments that wait for a pod to go before they make new ones.
#[must_use]
pub fn keys_of_pod(caches: &Caches, change: &Change<Pod>) -> Vec<ObjectKey> {
    let owner = pods::controller_of(change.object.as_ref()).filter(|owner| owner.kind == "ReplicaSet");
    let set = owner.and_then(|owner| caches.replica_sets.get(&change.namespace, &owner.name));
    let deployment = set.as_ref().and_then(|set| pods::controller_of(set.as_ref()));
    let deployment = deployment.and_then(|owner| caches.deployments.get(&change.namespace, &owner.name));
    deployment
        .filter(|deployment| rollout::recreates(deployment))
        .map(|found| ObjectKey::of(found.as_ref()))
        .into_iter()
        .collect()
}

/// One decision in the making.
struct Round {
    /// As observed, but for its status and annotations.
    deployment: Deployment,
    spec: DeploymentSpec,
    observed_status: DeploymentStatus,
    /// All managed sets, oldest first; the present one is at `current`.
    sets: Vec<Managed>,
    current: Option<usize>,
    /// Written first: a rollout's state must be told even if a later write of the plan fails.
    status_update: Option<Action>,
    actions: Vec<Action>,
    notes: Vec<Note>,
    look_again: Option<std::time::Duration>,
}

/// A managed ReplicaSet: as observed, and as wanted.
struct Managed {
    observed: Arc<ReplicaSet>,
    wanted: ReplicaSet,
}

impl Managed {
    fn replicas(&self) -> i64 {
        i64::from(self.wanted.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1))
    }

    fn available(&self) -> i64 {
        let status = self.observed.status.as_ref();
        i64::from(status.and_then(|status| status.available_replicas).unwrap_or(0))
    }

    fn name(&self) -> &str {
        self.observed.metadata.name.as_deref().unwrap_or_default()
    }
}

impl Round {
    fn new(deployment: &Deployment, spec: &DeploymentSpec, sets: &[Arc<ReplicaSet>]) -> Self {
        let mut sets: Vec<Managed> = sets
            .iter()
            .map(|set| Managed { observed: Arc::clone(set), wanted: ReplicaSet::clone(set) })
            .collect();
        sets.sort_by_key(|set| {
            let metadata = &set.observed.metadata;
            (metadata.creation_timestamp.as_ref().map(|time| time.0), metadata.name.clone())
        });
        let current = sets.iter().position(|set| template::is_of(&set.observed, deployment));
        Self {
            deployment: deployment.clone(),
            spec: spec.clone(),
            observed_status: deployment.status.clone().unwrap_or_default(),
            sets,
            current,
            status_update: None,
            actions: Vec::new(),
            notes: Vec::new(),
            look_again: None,
        }
    }

    fn current(&self) -> Option<&Managed> {
        self.current.and_then(|index| self.sets.get(index))
    }

    fn replicas_total(&self) -> i64 {
        self.sets.iter().map(Managed::replicas).sum()
    }

    /// Sets a set's size, keeps the record of the Deployment's size on it and tells users of a change.
    fn resize(&mut self, index: usize, replicas: i64) {
        let sizes = rollout::size_annotations(&self.deployment);
        let Some(set) = self.sets.get_mut(index) else { return };
        let from = set.replicas();
        set.wanted.metadata.annotations.get_or_insert_default().extend(sizes);
        if from == replicas {
            return;
        }
        set.wanted.spec.get_or_insert_default().replicas = Some(i32::try_from(replicas).unwrap_or(i32::MAX));
        let direction = if replicas > from { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {} from {from} to {replicas}", set.name());
        self.notes.push(Note::normal(&self.deployment, "ScalingReplicaSet", message));
    }

    fn plan(self) -> Plan {
        let changed = self.sets.iter().filter(|set| set.wanted != *set.observed);
        let mut actions: Vec<Action> = self.status_update.into_iter().collect();
        actions.extend(changed.map(|set| Action::update(&set.wanted)));
        actions.extend(self.actions);
        Plan { actions, notes: self.notes, requeue_after: self.look_again }
    }
}

/// Decides on sizes; upstream's order: paused and resized Deployments only scale, others move on.
fn roll(round: &mut Round, observed: &Observed) {
    let paused = round.spec.paused == Some(true);
    let resized = rollout::is_resized(round);
    if !paused {
        if let revision::Found::Made = revision::ensure_current(round, observed) {
            return;
        }
    } else {
        revision::note_current(round);
    }
    if paused || resized {
        rollout::scale_in_proportion(round);
    } else if rollout::recreates(&round.deployment) {
        rollout::recreate(round, &observed.pods);
    } else {
        rollout::step(round);
    }
    revision::trim_history(round);
}
