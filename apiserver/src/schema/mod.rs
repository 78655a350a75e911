//! The schema store: what fields a kind has, their types, and how lists merge.
//!
//! Built-in schemas are generated at build time (`build.rs`). One compiled form serves field validation ([`decode`]),
//! strategic merge and pruning; the OpenAPI documents serve the generated JSON itself.

mod decode;
mod go_text;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

pub use decode::{DecodeError, Decoded, Finding};

/// The generated schemas: one JSON object from schema name to OpenAPI v3 schema.
static GENERATED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/schemas.json"));

/// Where one schema names another.
pub const REFERENCE_PREFIX: &str = "#/components/schemas/";

/// Parsed once: the schemas are constants of the binary.
static BUILTIN: LazyLock<Schemas> = LazyLock::new(|| {
    let documents = serde_json::from_slice(GENERATED).expect("the build script wrote valid JSON");
    Schemas::from_documents(documents)
});

/// Every known schema, by name and by kind.
#[derive(Debug)]
pub struct Schemas {
    types: BTreeMap<String, Struct>,
    kinds: BTreeMap<(String, String, String), String>,
    documents: Map<String, Value>,
}

/// An object with named fields.
#[derive(Debug, Default)]
pub struct Struct {
    /// Schema name, `io.k8s.api.core.v1.Pod`.
    pub name: String,
    pub fields: BTreeMap<String, Field>,
}

/// One field of a [`Struct`].
#[derive(Debug)]
pub struct Field {
    pub shape: Shape,
    /// How a strategic merge patch treats the field.
    pub merge: MergeRule,
}

/// Strategic merge's view of a field.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct MergeRule {
    /// Lists merge instead of being replaced.
    pub merges: bool,
    /// Field that identifies an item; absent for lists of texts.
    pub key: Option<String>,
    /// The patch may say which keys stay.
    pub retains_keys: bool,
}

/// The type of a value.
#[derive(Debug)]
pub enum Shape {
    /// An object of a named schema.
    Struct(String),
    /// An object with free keys.
    Map(Box<Self>),
    List(Box<Self>),
    Text,
    /// Base64 of bytes.
    Bytes,
    /// RFC 3339, whole seconds.
    Time,
    /// RFC 3339, microseconds.
    MicroTime,
    Int32,
    Int64,
    Number,
    Boolean,
    IntOrString,
    Quantity,
    /// Anything, kept as it is.
    Any,
}

impl Schemas {
    /// Returns the schemas of the built-in kinds.
    pub fn builtin() -> &'static Self {
        &BUILTIN
    }

    /// Returns the schema of a kind.
    pub fn of_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Struct> {
        let name = self.kinds.get(&(group.to_owned(), version.to_owned(), kind.to_owned()))?;
        self.types.get(name)
    }

    /// Returns the schema of that name.
    pub fn get(&self, name: &str) -> Option<&Struct> {
        self.types.get(name)
    }

    /// Returns the OpenAPI v3 schemas, by name.
    pub fn documents(&self) -> &Map<String, Value> {
        &self.documents
    }

    /// Compiles OpenAPI v3 schemas.
    fn from_documents(documents: Map<String, Value>) -> Self {
        let mut types = BTreeMap::new();
        let mut kinds = BTreeMap::new();
        for (name, document) in &documents {
            for kind in document
                .get("x-kubernetes-group-version-kind")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                let text = |key: &str| kind.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                kinds.insert((text("group"), text("version"), text("kind")), name.clone());
            }
            if let Some(properties) = document.get("properties").and_then(Value::as_object) {
                let fields = properties
                    .iter()
                    .map(|(field, schema)| (field.clone(), compile_field(&documents, schema)));
                types.insert(name.clone(), Struct { name: name.clone(), fields: fields.collect() });
            }
        }
        Self { types, kinds, documents }
    }
}

fn compile_field(documents: &Map<String, Value>, schema: &Value) -> Field {
    let text = |key: &str| schema.get(key).and_then(Value::as_str);
    let strategy = text("x-kubernetes-patch-strategy").unwrap_or_default();
    let merge = MergeRule {
        merges: strategy.split(',').any(|part| part == "merge"),
        key: text("x-kubernetes-patch-merge-key").map(str::to_owned),
        retains_keys: strategy.split(',').any(|part| part == "retainKeys"),
    };
    Field { shape: compile_shape(documents, schema), merge }
}

fn compile_shape(documents: &Map<String, Value>, schema: &Value) -> Shape {
    if let Some(name) = reference(schema) {
        return match name {
            "io.k8s.apimachinery.pkg.apis.meta.v1.Time" => Shape::Time,
            "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime" => Shape::MicroTime,
            "io.k8s.apimachinery.pkg.api.resource.Quantity" => Shape::Quantity,
            "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => Shape::IntOrString,
            _ => match documents.get(name) {
                Some(document) if document.get("properties").is_some() => Shape::Struct(name.to_owned()),
                _ => Shape::Any,
            },
        };
    }
    let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
    match schema.get("type").and_then(Value::as_str).unwrap_or_default() {
        "object" => match schema.get("additionalProperties") {
            Some(values) if values.is_object() => Shape::Map(Box::new(compile_shape(documents, values))),
            _ => Shape::Any,
        },
        "array" => {
            let items = schema.get("items").map_or(Shape::Any, |items| compile_shape(documents, items));
            Shape::List(Box::new(items))
        }
        "string" => match format {
            "byte" => Shape::Bytes,
            "date-time" => Shape::Time,
            _ => Shape::Text,
        },
        "integer" if format == "int32" => Shape::Int32,
        "integer" => Shape::Int64,
        "number" => Shape::Number,
        "boolean" => Shape::Boolean,
        _ => Shape::Any,
    }
}

/// Returns the schema name that a schema refers to, directly or wrapped in `allOf`.
pub fn reference(schema: &Value) -> Option<&str> {
    let direct = schema.get("$ref");
    let wrapped = || schema.get("allOf")?.get(0)?.get("$ref");
    direct.or_else(wrapped)?.as_str()?.strip_prefix(REFERENCE_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_compile_with_their_merge_rules() {
        let schemas = Schemas::builtin();
        let pod = schemas.of_kind("", "v1", "Pod").unwrap();
        assert!(
            matches!(&pod.fields["spec"].shape, Shape::Struct(name) if name == "io.k8s.api.core.v1.PodSpec")
        );
        let spec = schemas.get("io.k8s.api.core.v1.PodSpec").unwrap();
        assert_eq!(spec.fields["containers"].merge.key.as_deref(), Some("name"));
        assert!(spec.fields["containers"].merge.merges && !spec.fields["tolerations"].merge.merges);
        assert!(spec.fields["volumes"].merge.retains_keys);
        let metadata = schemas.get("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").unwrap();
        assert!(matches!(metadata.fields["creationTimestamp"].shape, Shape::Time));
        assert!(metadata.fields["finalizers"].merge.merges);
    }

    #[test]
    fn every_kind_of_the_catalogue_has_a_schema() {
        for kind in crate::registry::catalog::all() {
            assert!(
                Schemas::builtin().of_kind(kind.group, kind.version, kind.kind).is_some(),
                "{} {}",
                kind.group,
                kind.kind
            );
        }
    }
}
