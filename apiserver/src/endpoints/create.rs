//! CREATE: normalise, default, admit, validate, commit.

use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use store::mvcc::LeaseId;
use tokio::time::Instant;
use transport::outside::Outside;

use super::status::Status;
use super::{Api, Call, Persist, WRITE_ATTEMPTS, WriteOptions, is_lost_race, time_text};
use crate::admission::Operation;
use crate::object;
use crate::registry::{FieldError, FieldErrorReason, Kind, Object, Scope};
use crate::storage::condition::{Condition, Expect, Extras, put};
use crate::storage::{StorageError, keys};

/// Tries at a free generated name, as upstream.
const NAME_ATTEMPTS: usize = 8;
/// Letters of generated suffixes: no vowels, so no words; no digits that look like letters.
const SUFFIX_LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
/// Longest base of a generated name, so that base and suffix fit a DNS label.
const GENERATED_BASE_MAX: usize = 63 - SUFFIX_LENGTH;
/// An answer to an idempotency key is kept at least `LEASE_TTL - LEASE_ROTATION`.
const LEASE_TTL: Duration = Duration::from_secs(3_600);
const LEASE_ROTATION: Duration = Duration::from_secs(1_800);

impl Api {
    /// Creates an object and returns it; with an idempotency key that was used before, returns the first one.
    pub(crate) async fn create(
        &self,
        call: &Call,
        object: Object,
        options: &WriteOptions,
    ) -> Result<Object, Status> {
        let generated = object::name(&object).is_empty() && !object::meta(&object, "generateName").is_empty();
        let attempts = if generated { NAME_ATTEMPTS } else { 1 };
        let mut last = Status::internal("no name was tried");
        for _ in 0..attempts {
            match self.create_named(call, object.clone(), options).await {
                Err(status) if status.reason == "AlreadyExists" && generated => {
                    let taken =
                        status.details.as_ref().map(|details| details.name.clone()).unwrap_or_default();
                    last = Status::generated_name_taken(call.kind, &taken);
                }
                other => return other,
            }
        }
        Err(last)
    }

    async fn create_named(
        &self,
        call: &Call,
        mut object: Object,
        options: &WriteOptions,
    ) -> Result<Object, Status> {
        normalise(call, &mut object, self.outside.as_ref())?;
        let name = object::name(&object).to_owned();
        for _ in 0..WRITE_ATTEMPTS {
            let mut candidate = object.clone();
            let mut extras = options.extras();
            if let Some(first) = self.first_answer(call, options, &mut extras, &candidate).await? {
                return Ok(first);
            }
            call.kind.strategy.default(&mut candidate);
            let now = self.now_text();
            call.kind.strategy.prepare_create(&call.context(&now), &mut candidate);
            extras.merge(self.admit(call, Operation::Create, &mut candidate).await?);
            self.refuse_existing(call, &name, options).await?;
            check_valid(call.kind, &candidate)?;
            if options.persist == Persist::DryRun {
                return Ok(candidate);
            }
            match self.storage.create(call.kind, &candidate, extras).await {
                Ok(stored) => return Ok(stored.object),
                Err(StorageError::Exists) => return Err(self.taken(call, &name).await),
                Err(error) if is_lost_race(&error) => {}
                Err(error) => return Err(Status::from_storage(error, call.kind, &name)),
            }
        }
        Err(Status::too_many_requests())
    }

    /// In a dry run nothing is committed, so the name is looked up instead.
    async fn refuse_existing(&self, call: &Call, name: &str, options: &WriteOptions) -> Result<(), Status> {
        if options.persist == Persist::Commit {
            return Ok(());
        }
        let found = self.storage.get(call.kind, &call.namespace, name).await;
        match found.map_err(|error| Status::from_storage(error, call.kind, name))? {
            Some(_) => Err(Status::already_exists(call.kind, name)),
            None => Ok(()),
        }
    }

    async fn taken(&self, call: &Call, name: &str) -> Status {
        match self.storage.get(call.kind, &call.namespace, name).await {
            Ok(Some(stored)) if object::is_being_deleted(&stored.object) => {
                Status::being_deleted(call.kind, name)
            }
            Ok(_) => Status::already_exists(call.kind, name),
            Err(error) => Status::from_storage(error, call.kind, name),
        }
    }

    /// Returns the object that an earlier request with the same key made; otherwise adds to `extras` what records
    /// this one as the first. A record whose object is gone again is overwritten: at no time do two objects exist.
    async fn first_answer(
        &self,
        call: &Call,
        options: &WriteOptions,
        extras: &mut Extras,
        candidate: &Object,
    ) -> Result<Option<Object>, Status> {
        let Some(idempotency_key) = options.idempotency_key.as_deref().filter(|key| !key.is_empty()) else {
            return Ok(None);
        };
        let storage_error = |error| Status::from_storage(error, call.kind, object::name(candidate));
        let key = idempotency_record(call, idempotency_key);
        let record = self.storage.read_raw(&key).await.map_err(storage_error)?;
        let expect = match &record {
            None => Expect::Absent,
            Some(record) => {
                let first: Value = serde_json::from_slice(&record.value).unwrap_or_default();
                let field = |name: &str| first.get(name).and_then(Value::as_str).unwrap_or_default();
                let found = self.storage.get(call.kind, &call.namespace, field("name")).await;
                match found.map_err(storage_error)? {
                    Some(stored) if object::uid(&stored.object) == field("uid") => {
                        return Ok(Some(stored.object));
                    }
                    Some(_) | None => Expect::At(record.mod_revision),
                }
            }
        };
        let value = json!({"version": 1, "name": object::name(candidate), "uid": object::uid(candidate)});
        let mut record = put(key.clone(), value.to_string());
        record.lease = self.idempotency.current(&self.storage).await.map_err(storage_error)?;
        extras.conditions.push(Condition { key, expect, violated: StorageError::Repeated });
        extras.puts.push(record);
        Ok(None)
    }
}

/// The store lease that ends old idempotency records; granted on first use and replaced while it still has half of
/// its time.
#[derive(Default)]
pub(crate) struct IdempotencyLease(Mutex<Option<(LeaseId, Instant)>>);

impl IdempotencyLease {
    async fn current(&self, storage: &crate::storage::Storage) -> Result<LeaseId, StorageError> {
        let known = *self.0.lock().expect("no code panics while holding this lock");
        if let Some((lease, granted)) = known
            && granted.elapsed() < LEASE_ROTATION
        {
            return Ok(lease);
        }
        let granted = storage.kv.lease_grant(LeaseId::NONE, LEASE_TTL).await?;
        *self.0.lock().expect("no code panics while holding this lock") = Some((granted.id, Instant::now()));
        Ok(granted.id)
    }
}

fn idempotency_record(call: &Call, idempotency_key: &str) -> String {
    let mut hash = Sha256::new();
    for part in [&call.user.name, call.kind.group, call.kind.resource, &call.namespace, idempotency_key] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    format!("{}{}", keys::IDEMPOTENCY, hex::encode(hash.finalize()))
}

/// Checks the object against the call and sets what only the server sets.
fn normalise(call: &Call, object: &mut Object, outside: &dyn Outside) -> Result<(), Status> {
    check_type(call.kind, object)?;
    match call.kind.scope {
        Scope::Namespaced => check_namespace(call, object)?,
        Scope::Cluster => {
            object::metadata_mut(object).remove("namespace");
        }
    }
    if object::name(object).is_empty() {
        let base: String = object::meta(object, "generateName").chars().take(GENERATED_BASE_MAX).collect();
        if base.is_empty() {
            let error = FieldError {
                field: "metadata.name".to_owned(),
                reason: FieldErrorReason::Required,
                message: "Required value: name or generateName is required".to_owned(),
            };
            return Err(Status::invalid(call.kind, "", &[error]));
        }
        object::set_meta(object, "name", format!("{base}{}", suffix(outside)));
    }
    for field in
        ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields"]
    {
        object::metadata_mut(object).remove(field);
    }
    object::set_meta(object, "uid", outside.uuid().to_string());
    object::set_meta(object, "creationTimestamp", time_text(outside.now()));
    Ok(())
}

fn check_type(kind: &Kind, object: &mut Object) -> Result<(), Status> {
    let expected = kind.api_version();
    let found_kind = object.get("kind").and_then(Value::as_str).unwrap_or(kind.kind);
    let found_version = object.get("apiVersion").and_then(Value::as_str).unwrap_or(&expected);
    if found_kind != kind.kind || found_version != expected {
        return Err(Status::bad_request(format!(
            "{found_kind} in version \"{}\" cannot be handled as a {}: no kind \"{found_kind}\" is registered for version \"{found_version}\" in this resource",
            found_version.rsplit('/').next().unwrap_or_default(),
            kind.kind,
        )));
    }
    object.insert("kind".to_owned(), kind.kind.into());
    object.insert("apiVersion".to_owned(), expected.into());
    Ok(())
}

/// Fills an absent namespace from the request and refuses another one.
pub(crate) fn check_namespace(call: &Call, object: &mut Object) -> Result<(), Status> {
    if object::namespace(object).is_empty() {
        object::set_meta(object, "namespace", call.namespace.as_str());
    }
    if object::namespace(object) == call.namespace {
        return Ok(());
    }
    Err(Status::bad_request(
        "the namespace of the provided object does not match the namespace sent on the request",
    ))
}

fn check_valid(kind: &Kind, object: &Object) -> Result<(), Status> {
    let errors = kind.strategy.validate(object);
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(kind, object::name(object), &errors)) }
}

/// Returns a random suffix for a generated name.
pub(crate) fn suffix(outside: &dyn Outside) -> String {
    let random = outside.uuid();
    let letters = random.as_bytes().iter().take(SUFFIX_LENGTH);
    letters
        .map(|byte| {
            let index = usize::from(*byte) % SUFFIX_LETTERS.len();
            char::from(*SUFFIX_LETTERS.get(index).expect("the index is taken modulo the length"))
        })
        .collect()
}
