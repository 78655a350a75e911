//! The catalogue of kinds and what is particular to each: a strategy per kind over JSON values.
//!
//! [`catalog`] lists every kind; routing, discovery, OpenAPI, storage and Table read nothing else. A kind is one file in the
//! folder of its group, which implements [`Strategy`]; what several kinds share is in [`validation`], [`value`] and
//! [`table`].
//!
//! Pure: no IO, clock or randomness; what a strategy needs arrives in [`Context`].

pub mod catalog;
pub mod table;
pub mod validation;
pub mod value;

mod apps;
mod coordination;
mod core;
mod discovery;
mod events;
mod generation;
mod pod_spec;
mod rbac;

use serde_json::Value;

/// A JSON object as stored and served.
pub type Object = serde_json::Map<String, Value>;

/// One entry of the catalogue: everything that routing, discovery, OpenAPI, storage and Table need to know of a kind.
pub struct Kind {
    /// API group, empty for core.
    pub group: &'static str,
    pub version: &'static str,
    /// Plural, lower case, as in the path.
    pub resource: &'static str,
    pub singular: &'static str,
    pub kind: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub scope: Scope,
    /// Folder under `/registry/` that holds the objects, as upstream lays them out (`services/specs` for services).
    pub storage_prefix: &'static str,
    pub subresources: &'static [Subresource],
    pub strategy: &'static dyn Strategy,
}

/// Whether objects live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Cluster,
    Namespaced,
}

/// A subresource served below an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    Status,
    Scale,
    Finalize,
    Binding,
    Eviction,
    Log,
    Exec,
    Attach,
    PortForward,
    Token,
}

/// Which part of an object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything but status.
    Main,
    Status,
}

/// What a strategy may know of the request.
pub struct Context<'a> {
    /// Now, RFC 3339 with seconds, UTC.
    pub now: &'a str,
    pub namespace: &'a str,
    pub user: &'a str,
}

/// One finding of validation, in upstream's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path such as `spec.containers[0].name`.
    pub field: String,
    pub reason: FieldErrorReason,
    /// Text behind the path, e.g. `Required value` or `Invalid value: "A": must be lower case`.
    pub message: String,
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Reason of a finding (`metav1.CauseType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorReason {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    TypeInvalid,
}

impl FieldErrorReason {
    /// Returns the text that a `Status` cause carries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

/// A column of a Table.
pub struct Column {
    pub name: &'static str,
    /// OpenAPI type: `string`, `integer`, `date`, …
    pub kind: &'static str,
    pub format: &'static str,
    pub description: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
}

/// What is particular to a kind. Objects passed in have `apiVersion`, `kind` and `metadata` already normalised.
pub trait Strategy: Send + Sync {
    /// Fills defaults as the upstream version of this API does.
    fn default(&self, object: &mut Object);

    /// Clears and sets what a creator may not decide (status, generation, …).
    fn prepare_create(&self, context: &Context<'_>, object: &mut Object);

    /// Carries over from `old` what this part of the object may not change, and bumps generation.
    fn prepare_update(&self, context: &Context<'_>, part: Part, object: &mut Object, old: &Object);

    /// Checks a new object.
    fn validate(&self, object: &Object) -> Vec<FieldError>;

    /// Checks a change, immutable fields included.
    fn validate_update(&self, part: Part, object: &Object, old: &Object) -> Vec<FieldError>;

    /// Fields that field selectors may use beyond `metadata.name` and `metadata.namespace`, with this object's values.
    fn selectable_fields(&self, _object: &Object) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Columns of the kind's Table.
    fn columns(&self) -> &'static [Column];

    /// Cells of one object's row, in column order. `now` is RFC 3339; ages are computed from it.
    fn row(&self, object: &Object, now: &str) -> Vec<Value>;

    /// Grace period of a delete that names none; `None` deletes at once (pods have one).
    fn default_grace_seconds(&self, _object: &Object) -> Option<i64> {
        None
    }

    /// Whether PUT may create the object (Leases, Endpoints, Events).
    fn allows_create_on_update(&self) -> bool {
        false
    }
}
