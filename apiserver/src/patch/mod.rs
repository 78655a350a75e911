//! Patches: what PATCH bodies do to an object, as pure functions.
//!
//! Reading order: [`merge`] (RFC 7386), [`json`] (RFC 6902), [`strategic`] (lists merged by key, driven by the schema store).
//! Server-side apply is not here yet.

pub mod json;
pub mod merge;
pub mod strategic;

use serde_json::Value;

use crate::registry::{Kind, Object};
use crate::schema::Schemas;

/// How a patch body is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    Json,
    Merge,
    Strategic,
}

impl PatchType {
    /// Reads the media type of a PATCH body, without parameters.
    pub fn from_media_type(media_type: &str) -> Option<Self> {
        match media_type {
            "application/json-patch+json" => Some(Self::Json),
            "application/merge-patch+json" => Some(Self::Merge),
            "application/strategic-merge-patch+json" => Some(Self::Strategic),
            _ => None,
        }
    }
}

/// Why a patch was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The body is no patch of its type: 400 BadRequest.
    #[error("{0}")]
    Malformed(String),
    /// The patch is larger than the limits: 413 RequestEntityTooLarge.
    #[error("{0}")]
    TooLarge(String),
    /// The patch does not fit this object: 422 Invalid.
    #[error("{0}")]
    NotApplicable(String),
}

/// Returns what `patch` makes of `object`; defaults and validation are the caller's next steps.
///
/// # Errors
/// The caller's mistake; the object is unchanged.
pub fn apply(
    kind: &Kind,
    patch_type: PatchType,
    object: &Object,
    patch: &[u8],
) -> Result<Object, PatchError> {
    let patched =
        apply_to_schema(Schemas::builtin(), kind.group, kind.version, kind.kind, patch_type, object, patch)?;
    for field in ["apiVersion", "kind"] {
        let (old, new) = (object.get(field), patched.get(field));
        if old.is_some() && new.is_some() && old != new {
            return Err(PatchError::NotApplicable(format!("{field} may not be changed by a patch")));
        }
    }
    Ok(patched)
}

/// Like [`apply`], for bodies of another kind than the resource (`Scale`).
///
/// # Errors
/// The caller's mistake; the object is unchanged.
pub fn apply_to_schema(
    schemas: &Schemas,
    group: &str,
    version: &str,
    kind: &str,
    patch_type: PatchType,
    object: &Object,
    patch: &[u8],
) -> Result<Object, PatchError> {
    let patched = match patch_type {
        PatchType::Json => json::apply(object, patch)?,
        PatchType::Merge => merge::apply(Value::Object(object.clone()), &parse_object(patch)?),
        PatchType::Strategic => {
            let schema = schemas.of_kind(group, version, kind);
            Value::Object(strategic::apply(schemas, schema, object, &parse_object(patch)?)?)
        }
    };
    match patched {
        Value::Object(object) => Ok(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(PatchError::NotApplicable("the patch leaves no object".to_owned()))
        }
    }
}

/// Merge patches of either kind are objects.
fn parse_object(patch: &[u8]) -> Result<Object, PatchError> {
    match serde_json::from_slice(patch) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(PatchError::Malformed("the patch is not a JSON object".to_owned())),
        Err(error) => Err(PatchError::Malformed(format!("error decoding patch: {error}"))),
    }
}
