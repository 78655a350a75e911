//! What a reconcile wants done, as data.

use std::time::Duration;

use client::{ApiObject, DeleteOptions, ResourceKind};
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::{Value, json};

/// The result of a reconcile: writes in order, and when to look again without being told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// Told to users after the writes succeeded.
    pub notes: Vec<Note>,
    pub requeue_after: Option<Duration>,
}

impl Plan {
    /// Returns a plan that does nothing.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Asks for another look after `delay`, or earlier if that was asked before.
    pub fn look_again(&mut self, delay: Duration) {
        self.requeue_after = Some(self.requeue_after.map_or(delay, |present| present.min(delay)));
    }
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    pub kind: ResourceKind,
    pub namespace: String,
    /// Empty when the server chooses the name.
    pub name: String,
    pub verb: Verb,
    /// What users are told when it succeeded and when it failed.
    pub success: Option<Note>,
    pub failure: Option<Note>,
}

/// How an action writes.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    Create {
        object: Value,
        idempotency_key: String,
    },
    /// Replaces the object, or the part that the subresource names.
    Update {
        subresource: &'static str,
        object: Value,
    },
    /// RFC 7396.
    Patch {
        subresource: &'static str,
        patch: Value,
    },
    Delete(DeleteOptions),
}

impl Action {
    /// Creates an object; a repeat with the same key makes no second one. Objects that are named by us need no key.
    ///
    /// # Panics
    /// Never for API types: they are JSON.
    #[must_use]
    pub fn create<K: ApiObject>(object: &K, idempotency_key: String) -> Self {
        Self::of(object, Verb::Create { object: to_json(object), idempotency_key })
    }

    /// Replaces an object if it has not changed since it was observed.
    #[must_use]
    pub fn update<K: ApiObject>(object: &K) -> Self {
        Self::of(object, Verb::Update { subresource: "", object: to_json(object) })
    }

    /// Replaces the status of an object if it has not changed since it was observed.
    #[must_use]
    pub fn update_status<K: ApiObject>(object: &K) -> Self {
        Self::of(object, Verb::Update { subresource: "status", object: to_json(object) })
    }

    /// Replaces the finalizers in the spec of a namespace.
    #[must_use]
    pub fn finalize<K: ApiObject>(object: &K) -> Self {
        Self::of(object, Verb::Update { subresource: "finalize", object: to_json(object) })
    }

    /// Changes the metadata of exactly this object in exactly this state.
    #[must_use]
    pub fn patch_metadata<K: ApiObject>(object: &K, mut metadata: Value) -> Self {
        if let Value::Object(fields) = &mut metadata {
            fields.insert("uid".into(), json!(object.metadata().uid));
            fields.insert("resourceVersion".into(), json!(object.metadata().resource_version));
        }
        Self::of(object, Verb::Patch { subresource: "", patch: json!({ "metadata": metadata }) })
    }

    /// Deletes exactly this object.
    #[must_use]
    pub fn delete<K: ApiObject>(object: &K) -> Self {
        let options = DeleteOptions { uid: object.metadata().uid.clone(), ..DeleteOptions::default() };
        Self::of(object, Verb::Delete(options))
    }

    /// Deletes exactly this object without waiting for its node.
    #[must_use]
    pub fn delete_now<K: ApiObject>(object: &K) -> Self {
        let options = DeleteOptions {
            uid: object.metadata().uid.clone(),
            grace_seconds: Some(0),
            ..DeleteOptions::default()
        };
        Self::of(object, Verb::Delete(options))
    }

    /// Sends the action to a kind named at run time.
    #[must_use]
    pub fn for_kind(mut self, kind: &ResourceKind) -> Self {
        self.kind = kind.clone();
        self
    }

    /// Tells users of success; `{name}` stands for the name of what was written.
    #[must_use]
    pub fn on_success(mut self, note: Note) -> Self {
        self.success = Some(note);
        self
    }

    /// Tells users of failure; `{error}` stands for what the server said.
    #[must_use]
    pub fn on_failure(mut self, note: Note) -> Self {
        self.failure = Some(note);
        self
    }

    fn of<K: ApiObject>(object: &K, verb: Verb) -> Self {
        let metadata = object.metadata();
        Self {
            kind: ResourceKind::of::<K>(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            verb,
            success: None,
            failure: None,
        }
    }
}

fn to_json<K: ApiObject>(object: &K) -> Value {
    serde_json::to_value(object).expect("API types have string keys and no failing serializers")
}

/// Whether a note is good news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteType {
    Normal,
    Warning,
}

/// A message to users, stored as an Event.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    pub regarding: ObjectReference,
    pub note_type: NoteType,
    pub reason: &'static str,
    pub message: String,
}

impl Note {
    /// Returns good news about an object.
    #[must_use]
    pub fn normal<K: ApiObject>(regarding: &K, reason: &'static str, message: impl Into<String>) -> Self {
        Self { regarding: reference(regarding), note_type: NoteType::Normal, reason, message: message.into() }
    }

    /// Returns a warning about an object.
    #[must_use]
    pub fn warning<K: ApiObject>(regarding: &K, reason: &'static str, message: impl Into<String>) -> Self {
        Self { note_type: NoteType::Warning, ..Self::normal(regarding, reason, message) }
    }
}

fn reference<K: ApiObject>(object: &K) -> ObjectReference {
    let metadata = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        field_path: None,
    }
}
