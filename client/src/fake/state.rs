//! Objects, revisions and locks of the fake API; synchronous and without IO.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jiff::Timestamp;
use proto::api::{fields, labels};
use proto::keelson as wire;
use proto::keelson::{Object, ResourceType};
use serde_json::{Map, Value, json};

use super::{Fault, patch};
use crate::error::{ApiError, Failure};

/// Grace period of a pod delete that names none.
const POD_GRACE_SECONDS: i64 = 30;
/// Kinds whose status is a part of its own.
const KINDS_WITH_STATUS: [&str; 6] =
    ["pods", "nodes", "namespaces", "services", "deployments", "replicasets"];

type Fields = Map<String, Value>;
type Stored = BTreeMap<(String, String), Fields>;

/// One change, as watches need it.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) revision: u64,
    resource: String,
    old: Option<Fields>,
    new: Option<Fields>,
}

/// Which objects a list or watch selects.
pub(super) struct Query {
    pub(super) resource: String,
    pub(super) namespace: String,
    labels: labels::Selector,
    fields: fields::Selector,
}

impl Query {
    pub(super) fn new(
        kind: &ResourceType,
        namespace: &str,
        label_selector: &str,
        field_selector: &str,
    ) -> Result<Self, ApiError> {
        let invalid = |text: String| ApiError::Invalid(Failure::text(text));
        Ok(Self {
            resource: resource_id(kind),
            namespace: namespace.to_owned(),
            labels: labels::Selector::parse(label_selector).map_err(|error| invalid(error.to_string()))?,
            fields: fields::Selector::parse(field_selector).map_err(|error| invalid(error.to_string()))?,
        })
    }

    fn matches(&self, object: &Fields) -> bool {
        let metadata = object.get("metadata");
        let namespace = metadata.and_then(|metadata| metadata.get("namespace")).and_then(Value::as_str);
        (self.namespace.is_empty() || namespace == Some(&self.namespace))
            && self.labels.matches_value(metadata.and_then(|metadata| metadata.get("labels")))
            && self.fields.terms().iter().all(|term| {
                let value = object_field(object, &term.field);
                (value == term.value) == (term.operator == fields::Operator::Equals)
            })
    }

    /// Returns what a watch with this query says of an event.
    pub(super) fn view(&self, event: &Event) -> Option<(wire::EventType, Object)> {
        if event.resource != self.resource {
            return None;
        }
        let matching = |object: &&Fields| self.matches(object);
        let old = event.old.as_ref().filter(matching);
        let new = event.new.as_ref().filter(matching);
        let (kind, shown) = match (old, new) {
            (None, Some(new)) => (wire::EventType::Added, new),
            (Some(_), Some(new)) => (wire::EventType::Modified, new),
            (Some(old), None) => (wire::EventType::Deleted, old),
            (None, None) => return None,
        };
        let mut shown = shown.clone();
        set_metadata(&mut shown, "resourceVersion", json!(event.revision.to_string()));
        Some((kind, to_wire(&shown)))
    }
}

#[derive(Clone, Debug)]
struct Holder {
    identity: String,
    epoch: u64,
}

/// Everything the fake API knows.
#[derive(Debug, Default)]
pub(super) struct State {
    objects: HashMap<String, Stored>,
    log: Vec<Event>,
    compacted: u64,
    revision: u64,
    uid_count: u64,
    locks: HashMap<String, Holder>,
    idempotent: HashMap<String, Object>,
    faults: VecDeque<Fault>,
}

impl State {
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn inject(&mut self, fault: Fault) {
        self.faults.push_back(fault);
    }

    pub(super) fn next_fault(&mut self) -> Option<Fault> {
        self.faults.pop_front()
    }

    pub(super) fn compact(&mut self) {
        self.compacted = self.revision;
        self.log.clear();
    }

    /// Returns the events after a revision.
    pub(super) fn events_after(&self, revision: u64) -> Result<Vec<Event>, ApiError> {
        if revision < self.compacted {
            return Err(ApiError::Expired(Failure::text("too old resource version")));
        }
        Ok(self.log.iter().filter(|event| event.revision > revision).cloned().collect())
    }

    pub(super) fn get(&self, kind: &ResourceType, namespace: &str, name: &str) -> Result<Object, ApiError> {
        self.fields(kind, namespace, name).map(to_wire)
    }

    pub(super) fn list(&self, query: &Query) -> Vec<Object> {
        let stored = self.objects.get(&query.resource).into_iter().flat_map(BTreeMap::values);
        stored.filter(|object| query.matches(object)).map(to_wire).collect()
    }

    pub(super) fn objects_of(&self, kind: &ResourceType) -> Vec<Object> {
        self.objects.get(&resource_id(kind)).into_iter().flat_map(BTreeMap::values).map(to_wire).collect()
    }

    pub(super) fn create(
        &mut self,
        kind: &ResourceType,
        raw: &[u8],
        idempotency_key: &str,
        fence: Option<&wire::Fence>,
    ) -> Result<Object, ApiError> {
        self.check_fence(fence)?;
        let repeat = format!("{}/{idempotency_key}", kind.resource);
        if let Some(first) = self.idempotent.get(&repeat).filter(|_| !idempotency_key.is_empty()) {
            return Ok(first.clone());
        }
        let mut object = parse(raw)?;
        self.uid_count += 1;
        let prefix = metadata_text(&object, "generateName");
        if metadata_text(&object, "name").is_empty() && !prefix.is_empty() {
            set_metadata(&mut object, "name", json!(format!("{prefix}{:05x}", self.uid_count)));
        }
        let id = object_id(&object);
        if self.objects.get(&resource_id(kind)).is_some_and(|stored| stored.contains_key(&id)) {
            return Err(ApiError::AlreadyExists(Failure::text(format!("{} {id:?}", kind.resource))));
        }
        if metadata_text(&object, "uid").is_empty() {
            set_metadata(&mut object, "uid", json!(format!("uid-{}", self.uid_count)));
        }
        if metadata_text(&object, "creationTimestamp").is_empty() {
            set_metadata(&mut object, "creationTimestamp", json!(now()));
        }
        set_metadata(&mut object, "generation", json!(1));
        if kind.resource == "namespaces" && !object.contains_key("spec") {
            object.insert("spec".into(), json!({"finalizers": ["kubernetes"]}));
        }
        let stored = self.store(kind, object, None);
        if !idempotency_key.is_empty() {
            self.idempotent.insert(repeat, stored.clone());
        }
        Ok(stored)
    }

    /// Replaces the part of an object that `subresource` names.
    pub(super) fn update(
        &mut self,
        kind: &ResourceType,
        subresource: &str,
        raw: &[u8],
        fence: Option<&wire::Fence>,
    ) -> Result<Object, ApiError> {
        self.check_fence(fence)?;
        let new = parse(raw)?;
        let (namespace, name) = object_id(&new);
        let old = self.fields(kind, &namespace, &name)?.clone();
        for precondition in ["resourceVersion", "uid"] {
            let wanted = metadata_text(&new, precondition);
            if !wanted.is_empty() && wanted != metadata_text(&old, precondition) {
                return Err(ApiError::Conflict(Failure::text(format!("{precondition} has changed"))));
            }
        }
        let merged = self.merged(kind, subresource, new, &old);
        Ok(self.settle(kind, merged, old))
    }

    /// Stores an object over the present one, all parts.
    pub(super) fn overwrite(&mut self, kind: &ResourceType, raw: &[u8]) -> Result<Object, ApiError> {
        let new = parse(raw)?;
        let (namespace, name) = object_id(&new);
        let old = self.fields(kind, &namespace, &name)?.clone();
        Ok(self.settle(kind, new, old))
    }

    pub(super) fn patch(
        &mut self,
        request: &wire::PatchRequest,
        kind: &ResourceType,
    ) -> Result<Object, ApiError> {
        self.check_fence(request.options.as_ref().and_then(|options| options.fence.as_ref()))?;
        let old = self.fields(kind, &request.namespace, &request.name)?.clone();
        let body: Value = serde_json::from_slice(&request.patch).map_err(malformed)?;
        let mut target = Value::Object(old.clone());
        match request.patch_type() {
            wire::PatchType::Json => {
                patch::json(&mut target, &body).map_err(|text| ApiError::Invalid(Failure::text(text)))?
            }
            wire::PatchType::Merge => patch::merge(&mut target, &body),
            wire::PatchType::Strategic => patch::strategic(&mut target, &body),
            wire::PatchType::Unspecified => return Err(ApiError::Invalid(Failure::text("no patch type"))),
        }
        let Value::Object(new) = target else {
            return Err(ApiError::Invalid(Failure::text("the patch leaves no object")));
        };
        for precondition in ["resourceVersion", "uid"] {
            if metadata_text(&new, precondition) != metadata_text(&old, precondition) {
                return Err(ApiError::Conflict(Failure::text(format!("{precondition} has changed"))));
            }
        }
        let merged = self.merged(kind, &request.subresource, new, &old);
        Ok(self.settle(kind, merged, old))
    }

    pub(super) fn delete(
        &mut self,
        request: &wire::DeleteRequest,
        kind: &ResourceType,
    ) -> Result<bool, ApiError> {
        self.check_fence(request.options.as_ref().and_then(|options| options.fence.as_ref()))?;
        let old = self.fields(kind, &request.namespace, &request.name)?.clone();
        if !request.uid.is_empty() && request.uid != metadata_text(&old, "uid") {
            return Err(ApiError::Conflict(Failure::text("uid has changed")));
        }
        let revision = request.resource_version.to_string();
        if request.resource_version != 0 && revision != metadata_text(&old, "resourceVersion") {
            return Err(ApiError::Conflict(Failure::text("resourceVersion has changed")));
        }
        let mut new = old.clone();
        match request.propagation_policy.as_str() {
            "Foreground" => add_finalizer(&mut new, "foregroundDeletion"),
            "Orphan" => add_finalizer(&mut new, "orphan"),
            _ => {}
        }
        let grace = grace_seconds(kind, &old, request.grace_period_seconds);
        if metadata_text(&new, "deletionTimestamp").is_empty() {
            set_metadata(&mut new, "deletionTimestamp", json!(now()));
        }
        set_metadata(&mut new, "deletionGracePeriodSeconds", json!(grace));
        if kind.resource == "namespaces" {
            new.insert("status".into(), json!({"phase": "Terminating"}));
        }
        let id = object_id(&new);
        if new != old {
            self.settle(kind, new, old);
        }
        Ok(!self.objects.get(&resource_id(kind)).is_some_and(|stored| stored.contains_key(&id)))
    }

    pub(super) fn remove(&mut self, kind: &ResourceType, namespace: &str, name: &str) {
        let id = (namespace.to_owned(), name.to_owned());
        if let Some(old) = self.objects.get_mut(&resource_id(kind)).and_then(|stored| stored.remove(&id)) {
            self.revision += 1;
            self.log(kind, Some(old), None);
        }
    }

    pub(super) fn bind(&mut self, request: &wire::BindRequest) -> Result<Object, ApiError> {
        self.check_fence(request.options.as_ref().and_then(|options| options.fence.as_ref()))?;
        let kind = ResourceType { group: String::new(), version: "v1".into(), resource: "pods".into() };
        let old = self.fields(&kind, &request.namespace, &request.name)?.clone();
        if !request.uid.is_empty() && request.uid != metadata_text(&old, "uid") {
            return Err(ApiError::Conflict(Failure::text("uid has changed")));
        }
        if !object_field(&old, "spec.nodeName").is_empty() {
            return Err(ApiError::Conflict(Failure::text("pod is already assigned to a node")));
        }
        let mut new = Value::Object(old.clone());
        patch::strategic(
            &mut new,
            &json!({
                "spec": {"nodeName": request.node},
                "status": {"conditions": [{"type": "PodScheduled", "status": "True"}]},
            }),
        );
        match new {
            Value::Object(new) => Ok(self.store(&kind, new, Some(old))),
            _ => Err(ApiError::Internal(Failure::text("a merge of objects is an object"))),
        }
    }

    pub(super) fn renew_lease(&mut self, request: &wire::RenewLeaseRequest) -> Result<Object, ApiError> {
        let kind = ResourceType {
            group: "coordination.k8s.io".into(),
            version: "v1".into(),
            resource: "leases".into(),
        };
        let spec = json!({
            "holderIdentity": request.holder,
            "leaseDurationSeconds": request.duration_seconds,
            "renewTime": format!("{:.6}", Timestamp::now()),
        });
        match self.fields(&kind, &request.namespace, &request.name).cloned() {
            Ok(old) => {
                let mut new = old.clone();
                new.insert("spec".into(), spec);
                Ok(self.store(&kind, new, Some(old)))
            }
            Err(_) => {
                let metadata = json!({"namespace": request.namespace, "name": request.name});
                let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": metadata, "spec": spec});
                self.create(&kind, lease.to_string().as_bytes(), "", None)
            }
        }
    }

    pub(super) fn acquire(&mut self, request: &wire::AcquireRequest) -> wire::AcquireResponse {
        let free = !self.locks.contains_key(&request.lock);
        if free {
            self.revision += 1;
            let holder = Holder { identity: request.identity.clone(), epoch: self.revision };
            self.locks.insert(request.lock.clone(), holder);
        }
        match self.locks.get(&request.lock) {
            Some(holder) => wire::AcquireResponse {
                acquired: holder.identity == request.identity,
                holder: holder.identity.clone(),
                epoch: holder.epoch,
                revision: self.revision,
            },
            None => wire::AcquireResponse::default(),
        }
    }

    pub(super) fn holds(&self, lock: &str, identity: &str, epoch: u64) -> bool {
        self.locks.get(lock).is_some_and(|holder| holder.identity == identity && holder.epoch == epoch)
    }

    pub(super) fn depose(&mut self, lock: &str) {
        self.locks.remove(lock);
    }

    fn check_fence(&self, fence: Option<&wire::Fence>) -> Result<(), ApiError> {
        let Some(fence) = fence else { return Ok(()) };
        if self.locks.get(&fence.lock).is_some_and(|holder| holder.epoch == fence.epoch) {
            return Ok(());
        }
        Err(ApiError::FencedOut(Failure::text(format!("epoch {} of {} is over", fence.epoch, fence.lock))))
    }

    fn fields(&self, kind: &ResourceType, namespace: &str, name: &str) -> Result<&Fields, ApiError> {
        let id = (namespace.to_owned(), name.to_owned());
        let found = self.objects.get(&resource_id(kind)).and_then(|stored| stored.get(&id));
        found.ok_or_else(|| ApiError::NotFound(Failure::text(format!("{} {name:?}", kind.resource))))
    }

    /// Takes from `new` only the part that the subresource names.
    fn merged(&self, kind: &ResourceType, subresource: &str, mut new: Fields, old: &Fields) -> Fields {
        match subresource {
            "status" => {
                let mut merged = old.clone();
                replace_field(&mut merged, "status", new.remove("status"));
                merged
            }
            "finalize" => {
                let mut merged = old.clone();
                replace_field(&mut merged, "spec", new.remove("spec"));
                merged
            }
            _ => {
                if KINDS_WITH_STATUS.contains(&kind.resource.as_str()) {
                    replace_field(&mut new, "status", old.get("status").cloned());
                }
                let changed = new.get("spec") != old.get("spec");
                let generation = old
                    .get("metadata")
                    .and_then(|metadata| metadata.get("generation"))
                    .and_then(Value::as_i64)
                    .unwrap_or(1);
                set_metadata(&mut new, "generation", json!(generation + i64::from(changed)));
                new
            }
        }
    }

    /// Stores the object, or removes it when its deletion has nothing left to wait for.
    fn settle(&mut self, kind: &ResourceType, new: Fields, old: Fields) -> Object {
        if new == old {
            return to_wire(&old);
        }
        if is_finished(kind, &new) {
            let (namespace, name) = object_id(&new);
            self.remove(kind, &namespace, &name);
            return to_wire(&new);
        }
        self.store(kind, new, Some(old))
    }

    fn store(&mut self, kind: &ResourceType, mut object: Fields, old: Option<Fields>) -> Object {
        self.revision += 1;
        set_metadata(&mut object, "resourceVersion", json!(self.revision.to_string()));
        self.log(kind, old, Some(object.clone()));
        let stored = to_wire(&object);
        self.objects.entry(resource_id(kind)).or_default().insert(object_id(&object), object);
        stored
    }

    fn log(&mut self, kind: &ResourceType, old: Option<Fields>, new: Option<Fields>) {
        self.log.push(Event { revision: self.revision, resource: resource_id(kind), old, new });
    }
}

fn now() -> String {
    // The API keeps whole seconds.
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default().to_string()
}

fn resource_id(kind: &ResourceType) -> String {
    format!("{}/{}", kind.group, kind.resource)
}

fn parse(raw: &[u8]) -> Result<Fields, ApiError> {
    serde_json::from_slice(raw).map_err(malformed)
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function in map_err")]
fn malformed(error: serde_json::Error) -> ApiError {
    ApiError::Invalid(Failure::text(error.to_string()))
}

fn metadata_text(object: &Fields, field: &str) -> String {
    let value = object.get("metadata").and_then(|metadata| metadata.get(field));
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn set_metadata(object: &mut Fields, field: &str, value: Value) {
    let metadata = object.entry("metadata").or_insert_with(|| json!({}));
    if let Value::Object(metadata) = metadata {
        metadata.insert(field.to_owned(), value);
    }
}

fn replace_field(object: &mut Fields, field: &str, value: Option<Value>) {
    match value {
        Some(value) => object.insert(field.to_owned(), value),
        None => object.remove(field),
    };
}

fn object_id(object: &Fields) -> (String, String) {
    (metadata_text(object, "namespace"), metadata_text(object, "name"))
}

fn object_field(object: &Fields, path: &str) -> String {
    let mut parts = path.split('.');
    let first = parts.next().and_then(|part| object.get(part));
    match parts.fold(first, |value, part| value.and_then(|value| value.get(part))) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

fn add_finalizer(object: &mut Fields, finalizer: &str) {
    let mut finalizers = object_finalizers(object);
    if !finalizers.iter().any(|present| present == finalizer) {
        finalizers.push(json!(finalizer));
    }
    set_metadata(object, "finalizers", Value::Array(finalizers));
}

fn object_finalizers(object: &Fields) -> Vec<Value> {
    let finalizers = object.get("metadata").and_then(|metadata| metadata.get("finalizers"));
    finalizers.and_then(Value::as_array).cloned().unwrap_or_default()
}

/// Only pods that a node may be running wait for it.
fn grace_seconds(kind: &ResourceType, object: &Fields, asked: Option<i64>) -> i64 {
    let waits = kind.resource == "pods" && !object_field(object, "spec.nodeName").is_empty();
    if waits { asked.unwrap_or(POD_GRACE_SECONDS) } else { 0 }
}

fn is_finished(kind: &ResourceType, object: &Fields) -> bool {
    let deleting = !metadata_text(object, "deletionTimestamp").is_empty();
    let grace = object
        .get("metadata")
        .and_then(|metadata| metadata.get("deletionGracePeriodSeconds"))
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let spec_finalizers =
        object.get("spec").and_then(|spec| spec.get("finalizers")).and_then(Value::as_array);
    let held = kind.resource == "namespaces" && spec_finalizers.is_some_and(|list| !list.is_empty());
    deleting && grace == 0 && object_finalizers(object).is_empty() && !held
}

fn to_wire(object: &Fields) -> Object {
    let (namespace, name) = object_id(object);
    Object {
        encoding: wire::Encoding::Json.into(),
        raw: serde_json::to_vec(object).unwrap_or_default().into(),
        uid: metadata_text(object, "uid"),
        resource_version: metadata_text(object, "resourceVersion").parse().unwrap_or(0),
        namespace,
        name,
    }
}
