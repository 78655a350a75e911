//! Every change of an existing object: PUT, PATCH and subresource writes differ only in how they compute the new
//! state from the current one.

use serde_json::Value;

use super::create::check_namespace;
use super::status::Status;
use super::{Api, Call, Persist, WRITE_ATTEMPTS, WriteOptions, is_lost_race};
use crate::admission::Operation;
use crate::object;
use crate::registry::{FieldError, FieldErrorReason, Object, Part, Scope};
use crate::storage::{StorageError, Stored};

/// Computes the wanted state from the current one; runs again after a lost race.
pub(crate) type Transform<'a> = &'a (dyn Fn(&Object) -> Result<Object, Status> + Sync);

/// Metadata that no write may change.
const SERVER_OWNED: [&str; 4] =
    ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"];

/// Outcome of a PUT.
pub(crate) enum Updated {
    Changed(Object),
    Created(Object),
}

impl Api {
    /// Replaces an object, or its status; creates it where the kind allows that.
    pub(crate) async fn update(
        &self,
        call: &Call,
        part: Part,
        object: Object,
        options: &WriteOptions,
    ) -> Result<Updated, Status> {
        let replaced = self.modify(call, part, options, &|_| Ok(object.clone())).await;
        match replaced {
            Err(status)
                if status.reason == "NotFound"
                    && part == Part::Main
                    && call.kind.strategy.allows_create_on_update()
                    && object::uid(&object).is_empty() =>
            {
                check_name(call, &object)?;
                Ok(Updated::Created(self.create(call, object, options).await?))
            }
            other => other.map(Updated::Changed),
        }
    }

    /// Runs `transform` on the current state and commits the result.
    pub(crate) async fn modify(
        &self,
        call: &Call,
        part: Part,
        options: &WriteOptions,
        transform: Transform<'_>,
    ) -> Result<Object, Status> {
        for _ in 0..WRITE_ATTEMPTS {
            let current = self.existing(call).await?;
            let wanted = transform(&current.object)?;
            let mut wanted = self.prepare(call, part, &current, wanted)?;
            let mut extras = options.extras();
            extras.merge(
                self.admit(call, Operation::Update { old: &current.object, part }, &mut wanted).await?,
            );
            validate(call, part, &wanted, &current.object)?;
            if options.persist == Persist::DryRun {
                return Ok(wanted);
            }
            let outcome = if wanted == current.object {
                // A write that changes nothing makes no new revision, but a lost leadership still shows.
                self.storage.check(extras.conditions).await.map(|()| wanted)
            } else if is_fully_released(&wanted) {
                let gone = Stored { object: wanted.clone(), revision: current.revision };
                extras.merge(self.released_with(call, &current.object));
                self.storage.delete(call.kind, &gone, extras).await.map(|_| wanted)
            } else {
                self.storage
                    .replace(call.kind, &wanted, current.revision, extras)
                    .await
                    .map(|stored| stored.object)
            };
            match outcome {
                Ok(object) => return Ok(object),
                Err(error) if is_lost_race(&error) => {}
                Err(error) => return Err(Status::from_storage(error, call.kind, &call.name)),
            }
        }
        Err(Status::from_storage(StorageError::Modified, call.kind, &call.name))
    }

    /// Checks preconditions and carries over what the writer may not decide.
    fn prepare(
        &self,
        call: &Call,
        part: Part,
        current: &Stored,
        mut wanted: Object,
    ) -> Result<Object, Status> {
        check_name(call, &wanted)?;
        if call.kind.scope == Scope::Namespaced {
            check_namespace(call, &mut wanted)?;
        }
        check_preconditions(call, &current.object, &wanted)?;
        wanted.insert("kind".to_owned(), call.kind.kind.into());
        wanted.insert("apiVersion".to_owned(), call.kind.api_version().into());
        let metadata = object::metadata_mut(&mut wanted);
        metadata.insert("name".to_owned(), call.name.as_str().into());
        metadata.remove("managedFields");
        metadata.remove("selfLink");
        for field in SERVER_OWNED.into_iter().chain(["resourceVersion", "generation"]) {
            match object::metadata(&current.object).and_then(|old| old.get(field)) {
                Some(value) => metadata.insert(field.to_owned(), value.clone()),
                None => metadata.remove(field),
            };
        }
        call.kind.strategy.default(&mut wanted);
        let now = self.now_text();
        call.kind.strategy.prepare_update(&call.context(&now), part, &mut wanted, &current.object);
        Ok(wanted)
    }
}

fn check_name(call: &Call, object: &Object) -> Result<(), Status> {
    let name = object::name(object);
    if name.is_empty() || name == call.name {
        return Ok(());
    }
    let text = format!("the name of the object ({name}) does not match the name on the URL ({})", call.name);
    Err(Status::bad_request(text))
}

/// A uid or resourceVersion in the object must be the current one; absent means unconditional.
pub(super) fn check_preconditions(call: &Call, current: &Object, wanted: &Object) -> Result<(), Status> {
    let (uid, wanted_uid) = (object::uid(current), object::uid(wanted));
    if !wanted_uid.is_empty() && wanted_uid != uid {
        let why =
            format!("Precondition failed: UID in precondition: {wanted_uid}, UID in object meta: {uid}");
        return Err(Status::conflict(call.kind, &call.name, &why));
    }
    let version = object::meta(wanted, "resourceVersion");
    if version.is_empty() || version == "0" || version == object::meta(current, "resourceVersion") {
        return Ok(());
    }
    if object::resource_version(wanted).is_none() {
        let error = FieldError {
            field: "metadata.resourceVersion".to_owned(),
            reason: FieldErrorReason::Invalid,
            message: format!("Invalid value: \"{version}\": must be a number"),
        };
        return Err(Status::invalid(call.kind, &call.name, &[error]));
    }
    Err(Status::modified(call.kind, &call.name))
}

fn validate(call: &Call, part: Part, wanted: &Object, old: &Object) -> Result<(), Status> {
    let mut errors = Vec::new();
    if object::is_being_deleted(old) {
        let before = object::finalizers(old);
        let added: Vec<_> =
            object::finalizers(wanted).into_iter().filter(|finalizer| !before.contains(finalizer)).collect();
        if !added.is_empty() {
            let list: Vec<_> = added.iter().map(|finalizer| format!("\"{finalizer}\"")).collect();
            errors.push(FieldError {
                field: "metadata.finalizers".to_owned(),
                reason: FieldErrorReason::Forbidden,
                message: format!(
                    "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    list.join(", ")
                ),
            });
        }
    }
    errors.extend(call.kind.strategy.validate_update(part, wanted, old));
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(call.kind, &call.name, &errors)) }
}

/// Whether the object was only waiting for its finalizers, and this write took the last one.
pub(super) fn is_fully_released(object: &Object) -> bool {
    let grace = object::metadata(object).and_then(|metadata| metadata.get("deletionGracePeriodSeconds"));
    let waits_for_spec = object::at(object, &["spec", "finalizers"])
        .and_then(Value::as_array)
        .is_some_and(|finalizers| !finalizers.is_empty());
    object::is_being_deleted(object)
        && object::finalizers(object).is_empty()
        && !waits_for_spec
        && grace.and_then(Value::as_i64).unwrap_or(0) == 0
}
