//! The ReplicaSet of the present template, and the numbered history behind it. Pure.
//!
//! `kubectl rollout undo` and `history` read and write exactly these annotations.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::template::{HASH_LABEL, hash};
use super::{Managed, Observed, Round, rollout, status};
use crate::pods;
use crate::runtime::{Action, Note};

const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Annotations of the Deployment that its sets do not inherit.
const NOT_INHERITED: [&str; 5] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    rollout::DESIRED_REPLICAS,
    rollout::MAX_REPLICAS,
];
/// Replaced sets that are kept for undo when the Deployment does not say.
const HISTORY_LIMIT_DEFAULT: i32 = 10;

/// Whether the present template has its ReplicaSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Present,
    /// It is being made; sizes are decided once it is there.
    Made,
}

/// Makes sure that the present template has a ReplicaSet with the newest revision.
pub(super) fn ensure_current(round: &mut Round, observed: &Observed) -> Found {
    if round.current.is_some() {
        note_current(round);
        return Found::Present;
    }
    // A Recreate makes its new set only when nothing of the old runs any more.
    if rollout::recreates(&round.deployment) && rollout::old_pods_exist(round, &observed.pods) {
        return Found::Present;
    }
    let collision_count = round.deployment.status.as_ref().and_then(|status| status.collision_count);
    let template_hash = hash(&round.spec.template, collision_count);
    let name = format!("{}-{template_hash}", round.deployment.metadata.name.as_deref().unwrap_or_default());
    let taken = observed.replica_sets.iter().any(|set| set.metadata.name.as_deref() == Some(&name));
    if taken {
        let status = round.deployment.status.get_or_insert_default();
        status.collision_count = Some(collision_count.unwrap_or(0) + 1);
        return Found::Made;
    }
    let size = i32::try_from(rollout::new_set_size(round, 0)).unwrap_or(i32::MAX);
    let set = new_set(round, name, template_hash, size);
    status::created(&mut round.deployment, &set);
    let from_zero = format!(
        "Scaled up replica set {} from 0 to {}",
        set.metadata.name.as_deref().unwrap_or_default(),
        size
    );
    let uid = round.deployment.metadata.uid.as_deref().unwrap_or_default();
    let key = format!("{uid}.{}", set.metadata.name.as_deref().unwrap_or_default());
    let mut action = Action::create(&set, key).on_failure(Note::warning(
        &round.deployment,
        "ReplicaSetCreateError",
        "{error}",
    ));
    if size != 0 {
        action = action.on_success(Note::normal(&round.deployment, "ScalingReplicaSet", from_zero));
    }
    round.actions.push(action);
    let newest = newest_revision(&round.sets) + 1;
    annotate_deployment(round, newest);
    Found::Made
}

fn new_set(round: &Round, name: String, template_hash: String, size: i32) -> ReplicaSet {
    let deployment = &round.deployment;
    let mut template = round.spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), template_hash.clone());
    let mut selector = round.spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), template_hash);
    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            namespace: deployment.metadata.namespace.clone(),
            name: Some(name),
            labels: template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()),
            owner_references: Some(vec![pods::controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(size),
            selector,
            template: Some(template),
            min_ready_seconds: round.spec.min_ready_seconds,
        }),
        status: None,
    };
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.extend(inherited(round));
    annotations.extend(rollout::size_annotations(deployment));
    annotations.insert(REVISION.to_owned(), (newest_revision(&round.sets) + 1).to_string());
    set
}

/// Keeps the present set's annotations and revision up to date: a set that is used again gets the newest number, and
/// its former ones go into its history.
pub(super) fn note_current(round: &mut Round) {
    let inherited = inherited(round);
    let min_ready_seconds = round.spec.min_ready_seconds;
    let Some(index) = round.current else { return };
    let others = round.sets.iter().enumerate().filter(|(other, _)| *other != index);
    let newest_other = others.map(|(_, set)| revision_of(&set.wanted.metadata)).max().unwrap_or(0);
    let Some(current) = round.sets.get_mut(index) else { return };
    let present = revision_of(&current.wanted.metadata);
    let annotations = current.wanted.metadata.annotations.get_or_insert_default();
    annotations.extend(inherited);
    let revision = if present > newest_other { present } else { newest_other + 1 };
    if revision != present {
        if present > 0 {
            let history = annotations.entry(REVISION_HISTORY.to_owned()).or_default();
            if !history.is_empty() {
                history.push(',');
            }
            history.push_str(&present.to_string());
        }
        annotations.insert(REVISION.to_owned(), revision.to_string());
    }
    current.wanted.spec.get_or_insert_default().min_ready_seconds = min_ready_seconds;
    annotate_deployment(round, revision);
}

fn annotate_deployment(round: &mut Round, revision: i64) {
    if revision_of(&round.deployment.metadata) == revision {
        return;
    }
    // Not tied to the observed state: the status written in the same plan changes that.
    let patch = json!({ "annotations": { REVISION: revision.to_string() } });
    let mut action = Action::patch_metadata(&round.deployment, patch);
    if let crate::runtime::Verb::Patch { patch, .. } = &mut action.verb
        && let Some(metadata) = patch.get_mut("metadata").and_then(|metadata| metadata.as_object_mut())
    {
        metadata.remove("resourceVersion");
    }
    round.actions.push(action);
}

fn inherited(round: &Round) -> Vec<(String, String)> {
    let annotations = round.deployment.metadata.annotations.iter().flatten();
    annotations
        .filter(|(name, _)| !NOT_INHERITED.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn newest_revision(sets: &[Managed]) -> i64 {
    sets.iter().map(|set| revision_of(&set.wanted.metadata)).max().unwrap_or(0)
}

fn revision_of(metadata: &ObjectMeta) -> i64 {
    let annotations = metadata.annotations.as_ref();
    annotations.and_then(|annotations| annotations.get(REVISION)?.parse().ok()).unwrap_or(0)
}

/// Deletes the oldest replaced sets beyond the limit, once the rollout is complete.
pub(super) fn trim_history(round: &mut Round) {
    if !status::is_complete(round) {
        return;
    }
    let limit = round.spec.revision_history_limit.unwrap_or(HISTORY_LIMIT_DEFAULT);
    let current = round.current;
    let mut replaced: Vec<&Managed> = round
        .sets
        .iter()
        .enumerate()
        .filter(|(index, set)| Some(*index) != current && set.replicas() == 0 && is_settled(&set.observed))
        .map(|(_, set)| set)
        .collect();
    replaced.sort_by_key(|set| revision_of(&set.wanted.metadata));
    let surplus = replaced.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    let deletions: Vec<Action> =
        replaced.iter().take(surplus).map(|set| Action::delete(set.observed.as_ref())).collect();
    round.actions.extend(deletions);
}

fn is_settled(set: &ReplicaSet) -> bool {
    let status = set.status.clone().unwrap_or_default();
    status.replicas == 0
        && status.observed_generation >= set.metadata.generation
        && set.metadata.deletion_timestamp.is_none()
}
