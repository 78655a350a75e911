//! Generates the schemas of the built-in kinds, so that no upstream document is committed.
//!
//! Types, documentation, formats and required fields come from the `k8s-openapi` crate; what it does not know (patch
//! strategies, list types, enumerations, group-version-kinds) is the overlay in `schema/overlay.tsv`. The result is one JSON
//! map from schema name to OpenAPI v3 schema, `$OUT_DIR/schemas.json`; paths and documents are assembled at run time
//! from the catalogue.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use k8s_openapi::api::{
    apps::v1 as apps, authentication::v1 as authentication, authorization::v1 as authorization,
    autoscaling::v1 as autoscaling, coordination::v1 as coordination, core::v1 as core,
    discovery::v1 as discovery, events::v1 as events, policy::v1 as policy, rbac::v1 as rbac,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";

macro_rules! reach {
    ($generator:ident: $($kind:ty),+ $(,)?) => { $( let _ = $generator.subschema_for::<$kind>(); )+ };
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=schema/overlay.tsv");
    let mut schemas = generate();
    for schema in schemas.values_mut() {
        normalise(schema);
    }
    schemas.insert(
        INT_OR_STRING.to_owned(),
        describe(
            &schemas,
            INT_OR_STRING,
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
        ),
    );
    schemas.insert(
        QUANTITY.to_owned(),
        describe(&schemas, QUANTITY, json!({"oneOf": [{"type": "string"}, {"type": "number"}]})),
    );
    overlay(&mut schemas, &fs::read_to_string("schema/overlay.tsv")?)?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("schemas.json"), serde_json::to_vec(&Value::Object(schemas))?)?;
    Ok(())
}

/// Returns the schemas of every kind of the catalogue and all they refer to.
fn generate() -> Map<String, Value> {
    let mut generator = SchemaSettings::openapi3().into_generator();
    reach!(generator: core::Namespace, core::Node, core::Pod, core::Service, core::Endpoints, core::ConfigMap,
        core::Secret, core::ServiceAccount, core::Event, core::Binding);
    reach!(generator: apps::Deployment, apps::ReplicaSet, discovery::EndpointSlice, coordination::Lease);
    reach!(generator: events::Event, policy::Eviction, autoscaling::Scale);
    reach!(generator: rbac::Role, rbac::RoleBinding, rbac::ClusterRole, rbac::ClusterRoleBinding);
    reach!(generator: authentication::TokenRequest, authentication::TokenReview, authentication::SelfSubjectReview);
    reach!(generator: authorization::SubjectAccessReview, authorization::LocalSubjectAccessReview,
        authorization::SelfSubjectAccessReview, authorization::SelfSubjectRulesReview);
    reach!(generator: meta::DeleteOptions, meta::ListMeta, meta::Status, meta::Patch, meta::APIGroupList,
        meta::APIGroup, meta::APIResourceList, meta::APIVersions);
    generator.take_definitions(false)
}

/// Wraps a described reference in `allOf`, as OpenAPI v3 wants it, and drops what upstream does not state.
fn normalise(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            for value in object.values_mut() {
                normalise(value);
            }
            if object.len() > 1
                && let Some(reference) = object.get("$ref").filter(|reference| reference.is_string()).cloned()
            {
                object.remove("$ref");
                object.insert("allOf".to_owned(), json!([{ "$ref": reference }]));
            }
            // The type crate asks for `metadata` on every kind; the API does not.
            if let Some(Value::Array(required)) = object.get_mut("required") {
                required.retain(|field| field != "metadata");
                if required.is_empty() {
                    object.remove("required");
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(normalise),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Returns `schema` with the description that the generated schema of that name carries.
fn describe(schemas: &Map<String, Value>, name: &str, mut schema: Value) -> Value {
    if let (Some(object), Some(text)) =
        (schema.as_object_mut(), schemas.get(name).and_then(|generated| generated.get("description")))
    {
        object.insert("description".to_owned(), text.clone());
    }
    schema
}

/// Applies the overlay: a line without a tab names a schema; a line behind it is `\tFIELD\tKEY=VALUE…`, where `.` is the
/// schema itself.
fn overlay(schemas: &mut Map<String, Value>, text: &str) -> Result<(), Box<dyn Error>> {
    let mut schema: Option<&mut Value> = None;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let Some(fact) = line.strip_prefix('\t') else {
            schema = schemas.get_mut(line);
            if schema.is_none() {
                return Err(format!("overlay names the unknown schema {line}").into());
            }
            continue;
        };
        let (field, facts) =
            fact.split_once('\t').ok_or_else(|| format!("overlay line {line:?} has no facts"))?;
        let pointer = if field == "." { String::new() } else { format!("/properties/{field}") };
        let target = schema
            .as_mut()
            .and_then(|schema| schema.pointer_mut(&pointer))
            .and_then(Value::as_object_mut)
            .ok_or_else(|| format!("overlay names the unknown field {field}"))?;
        for fact in facts.split('\t') {
            let (key, value) =
                fact.split_once('=').ok_or_else(|| format!("overlay fact {fact:?} has no value"))?;
            extend(target, key, value)?;
        }
    }
    Ok(())
}

/// Writes one fact into a schema.
fn extend(target: &mut Map<String, Value>, key: &str, value: &str) -> Result<(), Box<dyn Error>> {
    let mut set = |key: &str, value: Value| target.insert(key.to_owned(), value);
    match key {
        "patch" => set("x-kubernetes-patch-strategy", json!(value)),
        "key" => set("x-kubernetes-patch-merge-key", json!(value)),
        "list" => set("x-kubernetes-list-type", json!(value)),
        "keys" => set("x-kubernetes-list-map-keys", json!(value.split(',').collect::<Vec<_>>())),
        "map" => set("x-kubernetes-map-type", json!(value)),
        "default" => set("default", serde_json::from_str(value).unwrap_or_else(|_| json!(value))),
        "enum" => set("enum", json!(value.split(',').collect::<Vec<_>>())),
        "gvk" => {
            let kinds: Vec<Value> = value
                .split(',')
                .filter_map(|name| {
                    let mut parts = name.rsplitn(3, '/');
                    let (kind, version) = (parts.next()?, parts.next()?);
                    Some(json!({"group": parts.next().unwrap_or_default(), "version": version, "kind": kind}))
                })
                .collect();
            set("x-kubernetes-group-version-kind", Value::Array(kinds))
        }
        _ => return Err(format!("overlay knows no fact {key:?}").into()),
    };
    Ok(())
}
