//! OpenAPI documents: v3 per group version, and one v2 document, made from the catalogue and the schema store.
//!
//! kubectl reads v3 as JSON to explain fields, to merge patches, and to learn from a PATCH operation's `fieldValidation`
//! parameter that the server validates by itself. Older clients read v2 as protobuf. The documents are constants of the
//! binary: made once, on first use, with a hash that changes when they do.

mod paths;
mod v2;
mod v2_wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::registry::catalog;
use crate::schema::{REFERENCE_PREFIX, Schemas, reference};

/// Kubernetes version that the documents describe.
const VERSION: &str = "v1.36.0";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Media type that clients ask for to get v2 as protobuf.
pub const V2_PROTOBUF_ACCEPT: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// `Content-Type` of that answer: the `@` of the request would be no valid media type.
pub const V2_PROTOBUF_CONTENT_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// A document as it is sent.
#[derive(Debug)]
pub struct Document {
    pub body: Vec<u8>,
    /// Upper-case hexadecimal; the `ETag` and the `hash` parameter.
    pub hash: String,
}

static V3: LazyLock<BTreeMap<String, Document>> = LazyLock::new(|| {
    let versions = catalog::group_versions();
    versions
        .into_iter()
        .map(|(group, version)| (v3_path(group, version), Document::of(v3(group, version))))
        .collect()
});
static V2: LazyLock<Value> = LazyLock::new(v2::document);
static V2_JSON: LazyLock<Document> = LazyLock::new(|| Document::of(V2.clone()));
static V2_PROTOBUF: LazyLock<Document> = LazyLock::new(|| Document::of_bytes(v2_wire::encode(&V2)));

/// Returns the index of `/openapi/v3`.
pub fn v3_index() -> Value {
    let entry = |(path, document): (&String, &Document)| {
        (path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={}", document.hash)}))
    };
    json!({"paths": V3.iter().map(entry).collect::<Map<String, Value>>()})
}

/// Returns the document of `api/v1` or `apis/<group>/<version>`.
pub fn v3_document(path: &str) -> Option<&'static Document> {
    V3.get(path)
}

/// Returns the v2 document as JSON.
pub fn v2_json() -> &'static Document {
    &V2_JSON
}

/// Returns the v2 document as gnostic protobuf, to be sent as [`V2_PROTOBUF_CONTENT_TYPE`].
pub fn v2_protobuf() -> &'static Document {
    &V2_PROTOBUF
}

impl Document {
    fn of(value: Value) -> Self {
        Self::of_bytes(value.to_string().into_bytes())
    }

    fn of_bytes(body: Vec<u8>) -> Self {
        let hash = hex::encode_upper(Sha256::digest(&body));
        Self { body, hash }
    }
}

fn v3_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn v3(group: &str, version: &str) -> Value {
    let schemas = with_lists(Schemas::builtin());
    let paths = Value::Object(paths::of_group_version(&schemas, group, version));
    let components = reachable(&schemas, &paths);
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"BearerToken": {
                "type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header",
            }},
        },
    })
}

/// Returns every schema, and one for the list of each kind of the catalogue.
fn with_lists(schemas: &Schemas) -> Map<String, Value> {
    let mut documents = schemas.documents().clone();
    for kind in catalog::all() {
        let Some(item) = schemas.of_kind(kind.group, kind.version, kind.kind) else { continue };
        let text = |description: &str| json!({"type": "string", "description": description});
        documents.insert(
            format!("{}List", item.name),
            json!({
                "type": "object",
                "description": format!("{}List is a list of {}.", kind.kind, kind.resource),
                "required": ["items"],
                "properties": {
                    "apiVersion": text("Version of the list's schema."),
                    "kind": text("Kind of the list."),
                    "metadata": {
                        "description": "Metadata of the list.",
                        "default": {},
                        "allOf": [{"$ref": format!("{REFERENCE_PREFIX}{META}.ListMeta")}],
                    },
                    "items": {
                        "description": format!("The {}.", kind.resource),
                        "type": "array",
                        "items": {"default": {}, "allOf": [{"$ref": format!("{REFERENCE_PREFIX}{}", item.name)}]},
                    },
                },
                "x-kubernetes-group-version-kind":
                    [{"group": kind.group, "version": kind.version, "kind": format!("{}List", kind.kind)}],
            }),
        );
    }
    documents
}

/// Returns the schemas that `root` names, and those that they name.
fn reachable(schemas: &Map<String, Value>, root: &Value) -> Map<String, Value> {
    let mut found = Map::new();
    let mut pending: BTreeSet<String> = BTreeSet::new();
    collect_references(root, &mut pending);
    while let Some(name) = pending.pop_first() {
        if found.contains_key(&name) {
            continue;
        }
        if let Some(schema) = schemas.get(&name) {
            collect_references(schema, &mut pending);
            found.insert(name, schema.clone());
        }
    }
    found
}

fn collect_references(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            if object.contains_key("$ref")
                && let Some(name) = reference(value)
            {
                names.insert(name.to_owned());
            }
            object.values().for_each(|value| collect_references(value, names));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests;
