//! What a Deployment reports: counts, and the conditions that `kubectl rollout status` waits for. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Managed, Round, rollout};
use crate::runtime::{Action, Context};

const PROGRESS_DEADLINE_SECONDS_DEFAULT: i32 = 600;
/// Upstream's "no deadline".
const PROGRESS_DEADLINE_NONE: i32 = i32::MAX;

/// Notes on the Deployment's status that a new set is made in this round; its condition is written with the rest.
pub(super) fn created(deployment: &mut Deployment, set: &ReplicaSet) {
    let name = set.metadata.name.clone().unwrap_or_default();
    let status = deployment.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != "Progressing");
    conditions.push(DeploymentCondition {
        type_: "Progressing".to_owned(),
        status: "True".to_owned(),
        reason: Some("NewReplicaSetCreated".to_owned()),
        message: Some(format!("Created new replica set \"{name}\"")),
        last_update_time: None,
        last_transition_time: None,
    });
}

/// Says whether every replica is of the present template and available, and the servers know it.
pub(super) fn is_complete(round: &Round) -> bool {
    let counts = Counts::of(round);
    let desired = rollout::desired(&round.deployment);
    counts.updated == desired && counts.total == desired && counts.available == desired && counts.is_current
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    total: i64,
    updated: i64,
    ready: i64,
    available: i64,
    terminating: i64,
    /// The status of every set tells of its present spec.
    is_current: bool,
}

impl Counts {
    fn of(round: &Round) -> Self {
        let statuses = || round.sets.iter().filter_map(|set| set.observed.status.as_ref());
        let sum = |count: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> Option<i32>| -> i64 {
            statuses().filter_map(count).map(i64::from).sum()
        };
        let updated =
            round.current().and_then(|set| set.observed.status.as_ref()).map_or(0, |status| status.replicas);
        Self {
            total: sum(|status| Some(status.replicas)),
            updated: i64::from(updated),
            ready: sum(|status| status.ready_replicas),
            available: sum(|status| status.available_replicas),
            terminating: sum(|status| status.terminating_replicas),
            is_current: round.current().is_some_and(knows_its_spec),
        }
    }
}

fn knows_its_spec(set: &Managed) -> bool {
    let observed = set.observed.status.as_ref().and_then(|status| status.observed_generation);
    observed >= set.observed.metadata.generation && set.wanted.spec == set.observed.spec
}

/// Plans a status update when something has changed, and the next look at the progress deadline.
pub(super) fn write(round: &mut Round, context: &Context) {
    let counts = Counts::of(round);
    let old = round.observed_status.clone();
    let mut conditions =
        round.deployment.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    set_condition(&mut conditions, availability(round, counts), context.now);
    if let Some(progress) = progress(round, counts, &old, context) {
        set_condition(&mut conditions, progress, context.now);
    }
    stamp(&mut conditions, context.now);
    conditions.sort_by(|one, other| one.type_.cmp(&other.type_));
    let desired = rollout::desired(&round.deployment);
    let new = DeploymentStatus {
        replicas: some_if_positive(counts.total),
        updated_replicas: some_if_positive(counts.updated),
        ready_replicas: some_if_positive(counts.ready),
        available_replicas: some_if_positive(counts.available),
        unavailable_replicas: some_if_positive((counts.total.max(desired) - counts.available).max(0)),
        terminating_replicas: Some(number(counts.terminating)),
        observed_generation: round.deployment.metadata.generation,
        collision_count: round.deployment.status.as_ref().and_then(|status| status.collision_count),
        conditions: Some(conditions),
    };
    if new != old {
        let mut deployment = round.deployment.clone();
        deployment.status = Some(new);
        round.status_update = Some(Action::update_status(&deployment));
    }
}

fn availability(round: &Round, counts: Counts) -> DeploymentCondition {
    let (_, unavailable_max) = rollout::bounds(&round.deployment);
    if counts.available >= rollout::desired(&round.deployment) - unavailable_max {
        condition(
            "Available",
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.".to_owned(),
        )
    } else {
        let message = "Deployment does not have minimum availability.".to_owned();
        condition("Available", "False", "MinimumReplicasUnavailable", message)
    }
}

fn progress(
    round: &mut Round,
    counts: Counts,
    old: &DeploymentStatus,
    context: &Context,
) -> Option<DeploymentCondition> {
    let present = find(round.deployment.status.as_ref()?.conditions.as_ref(), "Progressing").cloned();
    let deadline_seconds = round.spec.progress_deadline_seconds.unwrap_or(PROGRESS_DEADLINE_SECONDS_DEFAULT);
    let reason = present.as_ref().and_then(|condition| condition.reason.clone()).unwrap_or_default();
    if round.spec.paused == Some(true) {
        return Some(condition(
            "Progressing",
            "Unknown",
            "DeploymentPaused",
            "Deployment is paused".to_owned(),
        ));
    }
    if reason == "DeploymentPaused" {
        return Some(condition(
            "Progressing",
            "Unknown",
            "DeploymentResumed",
            "Deployment is resumed".to_owned(),
        ));
    }
    let name = round.current()?.name().to_owned();
    if reason == "NewReplicaSetAvailable" && counts.total == counts.updated {
        // A finished rollout stays finished when its pods come and go.
        return None;
    }
    if is_complete(round) {
        let message = format!("ReplicaSet \"{name}\" has successfully progressed.");
        return Some(condition("Progressing", "True", "NewReplicaSetAvailable", message));
    }
    if has_moved(counts, old) || present.is_none() || reason == "NewReplicaSetAvailable" {
        let mut moved = condition(
            "Progressing",
            "True",
            "ReplicaSetUpdated",
            format!("ReplicaSet \"{name}\" is progressing."),
        );
        moved.last_update_time = Some(Time(context.now));
        look_at_deadline(round, context.now, context.now, deadline_seconds);
        return Some(moved);
    }
    let since = present
        .as_ref()
        .and_then(|condition| condition.last_update_time.as_ref())
        .map_or(context.now, |time| time.0);
    if deadline_seconds != PROGRESS_DEADLINE_NONE && has_passed(since, context.now, deadline_seconds) {
        let message = format!("ReplicaSet \"{name}\" has timed out progressing.");
        return Some(condition("Progressing", "False", "ProgressDeadlineExceeded", message));
    }
    look_at_deadline(round, since, context.now, deadline_seconds);
    None
}

fn has_moved(counts: Counts, old: &DeploymentStatus) -> bool {
    let old_updated = i64::from(old.updated_replicas.unwrap_or(0));
    let old_replaced = i64::from(old.replicas.unwrap_or(0)) - old_updated;
    counts.updated > old_updated
        || counts.total - counts.updated < old_replaced
        || counts.ready > i64::from(old.ready_replicas.unwrap_or(0))
        || counts.available > i64::from(old.available_replicas.unwrap_or(0))
}

fn has_passed(since: Timestamp, now: Timestamp, seconds: i32) -> bool {
    now.as_second() - since.as_second() >= i64::from(seconds)
}

fn look_at_deadline(round: &mut Round, since: Timestamp, now: Timestamp, seconds: i32) {
    if seconds == PROGRESS_DEADLINE_NONE {
        return;
    }
    // One second more, because times in objects are whole seconds.
    let left = since.as_second() + i64::from(seconds) - now.as_second() + 1;
    round.look_again = Some(Duration::from_secs(u64::try_from(left).unwrap_or(1)));
}

fn condition(condition_type: &str, status: &str, reason: &str, message: String) -> DeploymentCondition {
    DeploymentCondition {
        type_: condition_type.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: None,
        last_transition_time: None,
    }
}

fn find<'a>(
    conditions: Option<&'a Vec<DeploymentCondition>>,
    wanted: &str,
) -> Option<&'a DeploymentCondition> {
    conditions?.iter().find(|condition| condition.type_ == wanted)
}

/// Replaces a condition unless it says the same; an equal status keeps the time of its last transition.
fn set_condition(conditions: &mut Vec<DeploymentCondition>, mut new: DeploymentCondition, now: Timestamp) {
    let Some(present) = conditions.iter_mut().find(|condition| condition.type_ == new.type_) else {
        conditions.push(new);
        return;
    };
    if present.status == new.status && present.reason == new.reason && new.last_update_time.is_none() {
        return;
    }
    if present.status == new.status {
        new.last_transition_time = present.last_transition_time.clone();
    }
    new.last_update_time = new.last_update_time.or(Some(Time(now)));
    *present = new;
}

/// Gives new conditions their times.
fn stamp(conditions: &mut [DeploymentCondition], now: Timestamp) {
    for condition in conditions {
        condition.last_update_time.get_or_insert(Time(now));
        condition.last_transition_time.get_or_insert(Time(now));
    }
}

fn number(count: i64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn some_if_positive(count: i64) -> Option<i32> {
    (count > 0).then(|| number(count))
}
