//! How many replicas each ReplicaSet of a Deployment has: rolling update, Recreate and proportional scaling. Pure.
//!
//! Never more than `replicas + maxSurge` pods, never fewer than `replicas - maxUnavailable` available ones.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proto::api::int_or_percent::{IntOrPercent, Rounding};

use super::{Managed, Round};
use crate::pods;

/// The Deployment's size when a set was last sized: a difference means that the Deployment was scaled.
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// As above, with the surge: what a set's share is computed from.
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// Upstream's default for both bounds.
const BOUND_PERCENT_DEFAULT: IntOrPercent = IntOrPercent::Percent(25);

/// Says whether old pods must be gone before new ones start.
pub(super) fn recreates(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

/// Returns how many replicas are wanted.
pub(super) fn desired(deployment: &Deployment) -> i64 {
    i64::from(deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1))
}

/// Returns `maxSurge` and `maxUnavailable` as counts; both zero would never move, so one pod may then be missing.
pub(super) fn bounds(deployment: &Deployment) -> (i64, i64) {
    if recreates(deployment) {
        return (0, desired(deployment));
    }
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    let update = strategy.and_then(|strategy| strategy.rolling_update.clone());
    let update = update.unwrap_or_default();
    let desired = desired(deployment);
    let surge = bound(update.max_surge.as_ref()).resolve(desired, Rounding::Up);
    let unavailable = bound(update.max_unavailable.as_ref()).resolve(desired, Rounding::Down);
    match (surge, unavailable) {
        (0, 0) => (0, 1),
        (surge, unavailable) => (surge, unavailable.min(desired)),
    }
}

fn bound(value: Option<&IntOrString>) -> IntOrPercent {
    match value {
        Some(IntOrString::Int(count)) => IntOrPercent::Count(i64::from(*count)),
        Some(IntOrString::String(text)) => {
            IntOrPercent::from_percentage(text).unwrap_or(BOUND_PERCENT_DEFAULT)
        }
        None => BOUND_PERCENT_DEFAULT,
    }
}

/// Returns the record of the Deployment's size that every sized set carries.
pub(super) fn size_annotations(deployment: &Deployment) -> [(String, String); 2] {
    let (surge, _) = bounds(deployment);
    let desired = desired(deployment);
    [
        (DESIRED_REPLICAS.to_owned(), desired.to_string()),
        (MAX_REPLICAS.to_owned(), (desired + surge).to_string()),
    ]
}

/// Says whether the Deployment's size has changed since its running sets were sized.
pub(super) fn is_resized(round: &Round) -> bool {
    let desired = desired(&round.deployment);
    round
        .sets
        .iter()
        .filter(|set| set.replicas() > 0)
        .any(|set| annotation(set, DESIRED_REPLICAS).is_some_and(|recorded| recorded != desired))
}

fn annotation(set: &Managed, name: &str) -> Option<i64> {
    set.observed.metadata.annotations.as_ref()?.get(name)?.parse().ok()
}

/// Returns the size of the new set: as large as the surge allows now.
pub(super) fn new_set_size(round: &Round, present: i64) -> i64 {
    let desired = desired(&round.deployment);
    if recreates(&round.deployment) {
        return desired;
    }
    let (surge, _) = bounds(&round.deployment);
    let room = desired + surge - round.replicas_total();
    present + room.clamp(0, (desired - present).max(0))
}

/// One step of a rolling update: grow the new set if there is room, else shrink old ones as availability allows.
pub(super) fn step(round: &mut Round) {
    let Some(index) = round.current else { return };
    let Some(present) = round.sets.get(index).map(Managed::replicas) else { return };
    let desired = desired(&round.deployment);
    let size = if present > desired { desired } else { new_set_size(round, present) };
    round.resize(index, size);
    if size == present {
        shrink_old(round, index);
    }
}

fn shrink_old(round: &mut Round, current: usize) {
    let (_, unavailable_max) = bounds(&round.deployment);
    let available_min = desired(&round.deployment) - unavailable_max;
    let new_unavailable = round.sets.get(current).map_or(0, |set| (set.replicas() - set.available()).max(0));
    // New pods that are not available yet may still fail, so they do not make room for shrinking healthy old ones.
    let mut room = round.replicas_total() - available_min - new_unavailable;
    let old: Vec<usize> = (0..round.sets.len()).filter(|index| *index != current).collect();
    // Pods that serve nobody go first, oldest set first.
    for index in &old {
        let Some(set) = round.sets.get(*index) else { continue };
        let unhealthy = (set.replicas() - set.available()).clamp(0, room.max(0));
        let size = set.replicas() - unhealthy;
        room -= unhealthy;
        if unhealthy > 0 {
            round.resize(*index, size);
        }
    }
    let available: i64 = round.sets.iter().map(|set| set.available().min(set.replicas())).sum();
    let mut spare = (available - available_min).max(0);
    for index in old {
        let Some(set) = round.sets.get(index) else { continue };
        let shrink = set.replicas().min(spare);
        let size = set.replicas() - shrink;
        spare -= shrink;
        if shrink > 0 {
            round.resize(index, size);
        }
    }
}

/// One step of a Recreate: old sets to zero, and only when their pods are gone the new one to full size.
pub(super) fn recreate(round: &mut Round, pods: &[Arc<Pod>]) {
    let current = round.current;
    for index in (0..round.sets.len()).filter(|index| Some(*index) != current) {
        if round.sets.get(index).is_some_and(|set| set.replicas() > 0) {
            round.resize(index, 0);
        }
    }
    if let Some(index) = current
        && !old_pods_exist(round, pods)
    {
        let desired = desired(&round.deployment);
        round.resize(index, desired);
    }
}

/// Says whether a pod of an old set may still run.
pub(super) fn old_pods_exist(round: &Round, pods: &[Arc<Pod>]) -> bool {
    let old = round.sets.iter().enumerate().filter(|(index, _)| Some(*index) != round.current);
    old.into_iter().any(|(_, set)| {
        let uid = set.observed.metadata.uid.as_deref().unwrap_or_default();
        set.replicas() > 0
            || pods.iter().any(|pod| pods::is_controlled_by(pod.as_ref(), uid) && !pods::is_terminal(pod))
    })
}

/// Spreads a change of the Deployment's size over its running sets in proportion to their size, so that a rollout in
/// progress keeps its mix of versions. A single running set just takes the size.
pub(super) fn scale_in_proportion(round: &mut Round) {
    let running: Vec<usize> = (0..round.sets.len())
        .filter(|index| round.sets.get(*index).is_some_and(|set| set.replicas() > 0))
        .collect();
    let desired = desired(&round.deployment);
    match (running.as_slice(), round.current) {
        ([only], _) => return round.resize(*only, desired),
        ([], Some(current)) => return round.resize(current, desired),
        ([], None) => {
            let newest = round.sets.len().checked_sub(1);
            return newest.into_iter().for_each(|index| round.resize(index, desired));
        }
        _ => {}
    }
    if let Some(current) = round.current.and_then(|index| round.sets.get(index))
        && current.available() >= desired
        && current.replicas() >= desired
    {
        let old = running.into_iter().filter(|index| Some(*index) != round.current).collect::<Vec<_>>();
        return old.into_iter().for_each(|index| round.resize(index, 0));
    }
    spread(round, running);
}

fn spread(round: &mut Round, mut running: Vec<usize>) {
    let desired = desired(&round.deployment);
    let (surge, _) = bounds(&round.deployment);
    let allowed = if desired > 0 { desired + surge } else { 0 };
    let total: i64 = round.replicas_total();
    let mut left = allowed - total;
    let size_of = |round: &Round, index: usize| round.sets.get(index).map_or(0, Managed::replicas);
    // Larger sets first; of equals the newer one grows first and the older one shrinks first.
    running.sort_by_key(|index| {
        let age = if left > 0 { std::cmp::Reverse(*index) } else { std::cmp::Reverse(usize::MAX - *index) };
        (std::cmp::Reverse(size_of(round, *index)), age)
    });
    let mut sizes: Vec<(usize, i64)> = Vec::new();
    for index in running {
        let Some(set) = round.sets.get(index) else { continue };
        let size = set.replicas();
        let former_max = annotation(set, MAX_REPLICAS).filter(|max| *max > 0).unwrap_or(total.max(1));
        let share = rounded(size * allowed, former_max) - size;
        let share = if left > 0 { share.clamp(0, left) } else { share.clamp(left, 0) };
        left -= share;
        sizes.push((index, size + share));
    }
    if let Some((_, first)) = sizes.first_mut() {
        *first = (*first + left).max(0);
    }
    for (index, size) in sizes {
        round.resize(index, size);
    }
}

/// Divides non-negative numbers, rounding half up.
fn rounded(numerator: i64, denominator: i64) -> i64 {
    (2 * numerator + denominator).div_euclid(2 * denominator)
}
