//! API objects as they travel: typed through k8s-openapi, or with only their metadata understood.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proto::keelson::{Object, ResourceType};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{ApiError, Failure};

/// An object with metadata that can be read from and written to the API.
pub trait ApiObject:
    k8s_openapi::Resource
    + k8s_openapi::Metadata<Ty = ObjectMeta>
    + Serialize
    + DeserializeOwned
    + Clone
    + Debug
    + PartialEq
    + Send
    + Sync
    + 'static
{
}

impl<T> ApiObject for T where
    T: k8s_openapi::Resource
        + k8s_openapi::Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
        + PartialEq
        + Send
        + Sync
        + 'static
{
}

/// A resource named at run time: what routes a call when the Rust type does not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKind {
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    /// Plural, lower case.
    pub resource: String,
    pub kind: String,
}

impl ResourceKind {
    /// Returns the resource of a Rust type.
    #[must_use]
    pub fn of<K: ApiObject>() -> Self {
        Self {
            group: K::GROUP.to_owned(),
            version: K::VERSION.to_owned(),
            resource: K::URL_PATH_SEGMENT.to_owned(),
            kind: K::KIND.to_owned(),
        }
    }

    /// Returns `group/version`, or the version alone in the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    pub(crate) fn wire(&self) -> ResourceType {
        ResourceType {
            group: self.group.clone(),
            version: self.version.clone(),
            resource: self.resource.clone(),
        }
    }
}

/// An object of any kind: its metadata is understood, the rest is kept as JSON.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DynamicObject {
    #[serde(default)]
    pub api_version: String,
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub metadata: ObjectMeta,
    #[serde(flatten)]
    pub fields: serde_json::Map<String, Value>,
}

/// An object of any kind of which only the metadata is kept: what the garbage collector caches of everything.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetadataObject {
    #[serde(default)]
    pub api_version: String,
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub metadata: ObjectMeta,
}

/// Lets a type without a kind of its own pass as an object. The constants are placeholders: calls with such objects
/// always name their `ResourceKind`.
macro_rules! kindless_object {
    ($type:ty) => {
        impl k8s_openapi::Resource for $type {
            const API_VERSION: &'static str = "";
            const GROUP: &'static str = "";
            const KIND: &'static str = "";
            const VERSION: &'static str = "";
            const URL_PATH_SEGMENT: &'static str = "";
            type Scope = k8s_openapi::NamespaceResourceScope;
        }

        impl k8s_openapi::Metadata for $type {
            type Ty = ObjectMeta;

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

kindless_object!(DynamicObject);
kindless_object!(MetadataObject);

/// Reads an object from the wire; identity fields beside the bytes fill what the bytes leave out.
pub(crate) fn decode<K: ApiObject>(wire: &Object) -> Result<K, ApiError> {
    let mut object: K = serde_json::from_slice(&wire.raw)
        .map_err(|error| ApiError::Malformed(Failure::text(format!("{}: {error}", K::KIND))))?;
    let metadata = object.metadata_mut();
    if wire.resource_version != 0 {
        metadata.resource_version = Some(wire.resource_version.to_string());
    }
    if !wire.uid.is_empty() {
        metadata.uid = Some(wire.uid.clone());
    }
    Ok(object)
}

/// Writes an object for the wire.
pub(crate) fn encode<K: Serialize>(object: &K) -> Result<bytes::Bytes, ApiError> {
    serde_json::to_vec(object)
        .map(bytes::Bytes::from)
        .map_err(|error| ApiError::Malformed(Failure::text(error.to_string())))
}

/// Returns the store revision of an object, 0 when it has none.
#[must_use]
pub fn revision<K: ApiObject>(object: &K) -> u64 {
    object.metadata().resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}
