//! Orphans: what depends on an owner goes when its last owner is gone, and not before; what was to be orphaned stays.
//!
//! An object that no client asked to delete goes only when none of its owners stands: each is gone, or on its way out. What depended on an owner that was
//! deleted under the policy `Orphan` stays. An owner that is deleted under the policy `Foreground` goes behind its dependents. Once all is healed, nothing is left whose owners are gone, and nothing is stuck on its way out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::Record;
use super::super::opinions::Opinion;
use super::Findings;
use super::objects::{Change, changes, is_deleting, owners, uid};
use crate::history::{ApiCall, ApiExchange, Function, Removal, Resource, api_exchanges};

/// Name of the checker.
pub const NAME: &str = "k-orphans";
/// Where the workload's objects are.
pub const NAMESPACE: &str = "k-orphans";
/// What an owner carries while its dependents are let go, and while it waits for their end.
const ORPHAN_FINALIZER: &str = "orphan";
const FOREGROUND_FINALIZER: &str = "foregroundDeletion";
/// Owners that were deleted, and dependents that were collected, without which nothing is shown.
const FELLED_MIN: usize = 3;
const COLLECTED_MIN: usize = 3;

/// What stands at a revision, by uid.
#[derive(Default)]
struct Standing {
    objects: BTreeMap<String, (String, Value)>,
    /// Dependents that stay although their owner goes.
    let_go: BTreeSet<String>,
    /// Owners that were seen letting their dependents go.
    orphaning: BTreeSet<String>,
    /// Owners that were seen waiting, with those that they wait for.
    awaited: BTreeMap<String, BTreeSet<String>>,
    collected: usize,
}

/// Says what it thinks of owners and dependents of a run.
pub(in super::super) fn opinion(record: &Record) -> Result<Option<Opinion>, String> {
    let exchanges = api_exchanges(&record.events)?;
    let removals: Vec<(&ApiExchange, &Removal)> = exchanges
        .iter()
        .filter_map(|exchange| match &exchange.call {
            ApiCall::Delete(removal) if removal.namespace == NAMESPACE => Some((exchange, removal)),
            _ => None,
        })
        .collect();
    if removals.is_empty() {
        return Ok(None);
    }
    let mut findings = Findings::default();
    findings.log(record);
    findings.waits(record);
    let mut standing = Standing::default();
    if findings.unknown.is_empty() {
        let requested: BTreeSet<&str> = removals
            .iter()
            .filter(|(exchange, _)| !exchange.is_refused())
            .map(|(_, removal)| removal.name.as_str())
            .collect();
        let changes = changes(record, &Resource::ConfigMaps.folder(NAMESPACE))?;
        for change in &changes {
            standing.take_in(change, &requested, &mut findings);
        }
        orphaned(&removals, &changes, &standing, &mut findings);
        if record.events.iter().any(|event| event.f == Function::Settle) {
            standing.at_the_end(&mut findings);
        }
    }
    let felled = removals.iter().filter(|(exchange, _)| exchange.done().is_some()).count();
    let (collected, let_go) = (standing.collected, standing.let_go.len());
    findings.demand("owners that were deleted", felled, FELLED_MIN);
    findings.demand("dependents that were collected", collected, COLLECTED_MIN);
    let scope = format!("{felled} owners deleted, {collected} dependents collected, {let_go} let go");
    let counts = [("felled", felled), ("collected", collected), ("let_go", let_go)];
    Ok(Some(findings.opinion(NAME, scope, &counts)))
}

impl Standing {
    fn take_in(&mut self, change: &Change<'_>, requested: &BTreeSet<&str>, findings: &mut Findings) {
        let Some(object) = &change.object else {
            self.gone(change, requested, findings);
            return;
        };
        let own = uid(object).unwrap_or_default().to_owned();
        if is_deleting(object) && has_finalizer(object, FOREGROUND_FINALIZER) {
            let depends = |(_, object): &(String, Value)| is_blocked_by(object, &own);
            let dependents = self.objects.iter().filter(|(_, standing)| depends(standing));
            let dependents = dependents.map(|(uid, _)| uid.clone()).collect();
            self.awaited.entry(own.clone()).or_insert(dependents);
        }
        let is_orphaning = is_deleting(object) && has_finalizer(object, ORPHAN_FINALIZER);
        if is_orphaning && self.orphaning.insert(own.clone()) {
            let depends = |object: &Value| !is_deleting(object) && owners(object) == [own.clone()];
            let dependents = self.objects.iter().filter(|(_, (_, object))| depends(object));
            self.let_go.extend(dependents.map(|(uid, _)| uid.clone()));
        }
        self.objects.insert(own, (change.name.to_owned(), object.clone()));
    }

    /// Judges the end of an object.
    fn gone(&mut self, change: &Change<'_>, requested: &BTreeSet<&str>, findings: &mut Findings) {
        let found = self.objects.iter().find(|(_, (name, _))| name == change.name);
        let Some(own) = found.map(|(uid, _)| uid.clone()) else { return };
        let Some((name, object)) = self.objects.remove(&own) else { return };
        self.went_too_early(&own, change, findings);
        if requested.contains(name.as_str()) {
            return;
        }
        self.collected += 1;
        let at = change.revision;
        let owners = owners(&object);
        let stands =
            |owner: &&String| self.objects.get(*owner).is_some_and(|(_, object)| !is_deleting(object));
        if self.let_go.contains(&own) {
            let sentence = format!("at {at}, {name} is gone, which was to stay when its owner went");
            findings.broken("orphan was deleted", &[], sentence);
        } else if owners.is_empty() {
            let sentence = format!("at {at}, {name} is gone, which has no owner and nobody deleted");
            findings.broken("deleted by nobody", &[], sentence);
        } else if let Some(owner) = owners.iter().find(stands) {
            let sentence = format!("at {at}, {name} is gone, and its owner {owner} stands");
            findings.broken("dependent of a living owner was deleted", &[], sentence);
        }
    }

    /// What stood when its owner began to wait, and still depends on it, must be gone before the owner is.
    fn went_too_early(&mut self, own: &str, change: &Change<'_>, findings: &mut Findings) {
        let awaited = self.awaited.remove(own).unwrap_or_default();
        let left = awaited.iter().filter_map(|uid| self.objects.get(uid));
        if let Some((left, _)) = left.into_iter().find(|(_, object)| is_blocked_by(object, own)) {
            let (name, at) = (change.name, change.revision);
            let sentence = format!("at {at}, {name} is gone, which was to go behind its dependent {left}");
            findings.broken("owner went before its dependents", &[], sentence);
        }
    }

    fn at_the_end(&self, findings: &mut Findings) {
        for (name, object) in self.objects.values() {
            let owners = owners(object);
            if !owners.is_empty() && !owners.iter().any(|owner| self.objects.contains_key(owner)) {
                findings.broken("orphan is left", &[], format!("{name} is left, and its owners are gone"));
            }
            if is_deleting(object) {
                findings.broken("stuck", &[], format!("{name} is on its way out, and still there"));
            }
        }
    }
}

fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    finalizers.into_iter().flatten().any(|name| name.as_str() == Some(finalizer))
}

/// Whether an object names an owner that is not to go before it.
fn is_blocked_by(object: &Value, owner: &str) -> bool {
    let references = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    references.into_iter().flatten().any(|reference| {
        reference.get("uid").and_then(Value::as_str) == Some(owner)
            && reference.get("blockOwnerDeletion").and_then(Value::as_bool) == Some(true)
    })
}

/// An acknowledged deletion under the policy `Orphan` must have let dependents go, if there were some.
fn orphaned(
    removals: &[(&ApiExchange, &Removal)],
    changes: &[Change<'_>],
    standing: &Standing,
    findings: &mut Findings,
) {
    for (exchange, removal) in removals {
        if removal.propagation.as_deref() != Some("Orphan") || exchange.done().is_none() {
            continue;
        }
        let of_owner = changes.iter().filter(|change| change.name == removal.name);
        let own = of_owner.filter_map(|change| uid(change.object.as_ref()?)).next();
        if own.is_some_and(|own| !standing.orphaning.contains(own)) {
            let (index, name) = (exchange.index, &removal.name);
            let sentence = format!("#{index} deleted {name}, and its dependents were not let go before");
            findings.broken("orphan policy ignored", &[index], sentence);
        }
    }
}

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
