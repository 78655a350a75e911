//! DELETE of one object: preconditions, propagation, finalizers and grace decide what happens now.

use serde_json::{Value, json};

use super::status::Status;
use super::{Api, Call, Persist, WRITE_ATTEMPTS, WriteOptions, is_lost_race, time_text};
use crate::admission::Operation;
use crate::object;
use crate::registry::{Kind, Object};
use crate::storage::{StorageError, Stored};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What happens to dependents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// The collector deletes them afterwards; finalizers already there are kept.
    #[default]
    Default,
    Background,
    Foreground,
    Orphan,
}

/// The options of a delete.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) grace_seconds: Option<i64>,
    pub(crate) propagation: Propagation,
}

/// What a delete did.
#[derive(Clone, Debug)]
pub(crate) enum Deleted {
    /// Gone; this was the last state.
    Now(Object),
    /// Marked; finalizers or a grace period hold it.
    Pending(Object),
}

/// What is to be done with the current state.
#[derive(Debug, PartialEq)]
enum Plan {
    Remove,
    Mark(Object),
    Keep,
}

impl Api {
    /// Deletes an object, or marks it as being deleted.
    pub(crate) async fn delete(
        &self,
        call: &Call,
        delete: &DeleteOptions,
        options: &WriteOptions,
    ) -> Result<Deleted, Status> {
        for _ in 0..WRITE_ATTEMPTS {
            let current = self.existing(call).await?;
            check_preconditions(call, delete, &current.object)?;
            let mut extras = options.extras();
            let mut admitted = current.object.clone();
            extras.merge(self.admit(call, Operation::Delete, &mut admitted).await?);
            let plan = plan(call.kind, delete, &current.object, self.outside.now());
            if options.persist == Persist::DryRun {
                return Ok(dry(plan, current));
            }
            let outcome = match plan {
                Plan::Keep => return Ok(Deleted::Pending(current.object)),
                Plan::Mark(marked) => {
                    let replaced = self.storage.replace(call.kind, &marked, current.revision, extras).await;
                    replaced.map(|stored| Deleted::Pending(stored.object))
                }
                Plan::Remove => {
                    extras.merge(self.released_with(call, &current.object));
                    let removed = self.storage.delete(call.kind, &current, extras).await;
                    removed.map(|_| Deleted::Now(current.object))
                }
            };
            match outcome {
                Ok(deleted) => return Ok(deleted),
                Err(error) if is_lost_race(&error) => {}
                Err(error) => return Err(Status::from_storage(error, call.kind, &call.name)),
            }
        }
        Err(Status::from_storage(StorageError::Modified, call.kind, &call.name))
    }
}

fn dry(plan: Plan, current: Stored) -> Deleted {
    match plan {
        Plan::Remove => Deleted::Now(current.object),
        Plan::Mark(marked) => Deleted::Pending(marked),
        Plan::Keep => Deleted::Pending(current.object),
    }
}

fn check_preconditions(call: &Call, delete: &DeleteOptions, current: &Object) -> Result<(), Status> {
    let uid = object::uid(current);
    if let Some(wanted) = delete.uid.as_deref().filter(|wanted| *wanted != uid) {
        let why = format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        );
        return Err(Status::precondition(call.kind, &call.name, &why));
    }
    let version = object::meta(current, "resourceVersion");
    if let Some(wanted) = delete.resource_version.as_deref().filter(|wanted| *wanted != version) {
        let why = format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object might have been modified"
        );
        return Err(Status::precondition(call.kind, &call.name, &why));
    }
    Ok(())
}

/// Decides what a delete does to `current` at `now`.
fn plan(kind: &Kind, delete: &DeleteOptions, current: &Object, now: jiff::Timestamp) -> Plan {
    let mut wanted = current.clone();
    let finalizers = wanted_finalizers(delete.propagation, object::finalizers(current));
    object::set_finalizers(&mut wanted, finalizers.clone());
    let mut grace = grace_seconds(kind, delete, current);
    let waits_for_spec = is_namespace(kind)
        && object::at(current, &["spec", "finalizers"])
            .and_then(Value::as_array)
            .is_some_and(|finalizers| !finalizers.is_empty());
    if grace <= 0 && finalizers.is_empty() && !waits_for_spec {
        return Plan::Remove;
    }
    if object::is_being_deleted(current) {
        let old_grace = object::metadata(current)
            .and_then(|metadata| metadata.get("deletionGracePeriodSeconds"))
            .and_then(Value::as_i64)
            .unwrap_or(0);
        // A grace period may be shortened, never extended.
        if grace >= old_grace && wanted == *current {
            return Plan::Keep;
        }
        grace = grace.min(old_grace);
    }
    mark(&mut wanted, grace, now);
    if is_namespace(kind) {
        object::set_at(&mut wanted, &["status", "phase"], json!("Terminating"));
    }
    if wanted == *current { Plan::Keep } else { Plan::Mark(wanted) }
}

fn mark(object: &mut Object, grace: i64, now: jiff::Timestamp) {
    let first = !object::is_being_deleted(object);
    let old_grace = object::metadata(object)
        .and_then(|metadata| metadata.get("deletionGracePeriodSeconds"))
        .and_then(Value::as_i64);
    if first || old_grace != Some(grace) {
        let until = now.checked_add(jiff::SignedDuration::from_secs(grace)).unwrap_or(now);
        object::set_meta(object, "deletionTimestamp", time_text(until));
        object::set_meta(object, "deletionGracePeriodSeconds", grace);
    }
    if first {
        let generation = object::metadata(object).and_then(|metadata| metadata.get("generation"));
        if let Some(generation) = generation.and_then(Value::as_i64) {
            object::set_meta(object, "generation", generation + 1);
        }
    }
}

/// Kinds without grace end at once; so does an object whose own default is 0 (a pod that never reached a node).
fn grace_seconds(kind: &Kind, delete: &DeleteOptions, current: &Object) -> i64 {
    match kind.strategy.default_grace_seconds(current) {
        None | Some(0) => 0,
        // A negative period means one second, as upstream.
        Some(default) => match delete.grace_seconds.unwrap_or(default) {
            negative if negative < 0 => 1,
            seconds => seconds,
        },
    }
}

fn wanted_finalizers(propagation: Propagation, mut finalizers: Vec<String>) -> Vec<String> {
    let (orphan, foreground) = match propagation {
        Propagation::Default => return finalizers,
        Propagation::Background => (false, false),
        Propagation::Foreground => (false, true),
        Propagation::Orphan => (true, false),
    };
    finalizers.retain(|finalizer| finalizer != ORPHAN && finalizer != FOREGROUND);
    if orphan {
        finalizers.push(ORPHAN.to_owned());
    }
    if foreground {
        finalizers.push(FOREGROUND.to_owned());
    }
    finalizers
}

pub(crate) fn is_namespace(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.resource == "namespaces"
}
