//! The v2 (Swagger) document: the v3 documents of all group versions in the older form.

use serde_json::{Map, Value, json};

use super::{VERSION, paths, reachable, with_lists};
use crate::registry::catalog;
use crate::schema::{REFERENCE_PREFIX, Schemas};

const DEFINITION_PREFIX: &str = "#/definitions/";
const VERBS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// Returns the document as JSON.
pub(super) fn document() -> Value {
    let schemas = with_lists(Schemas::builtin());
    let mut all_paths = Map::new();
    for (group, version) in catalog::group_versions() {
        all_paths.extend(paths::of_group_version(&schemas, group, version));
    }
    let all_paths = Value::Object(all_paths);
    let definitions = reachable(&schemas, &all_paths);
    let definitions: Map<String, Value> =
        definitions.into_iter().map(|(name, schema)| (name, convert_schema(schema))).collect();
    let paths: Map<String, Value> = match all_paths {
        Value::Object(paths) => paths.into_iter().map(|(path, item)| (path, convert_item(item))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    };
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "definitions": definitions,
    })
}

/// Turns a v3 schema into a v2 one: references move, `allOf` of one reference unwraps, unions become text.
fn convert_schema(schema: Value) -> Value {
    match schema {
        Value::Object(mut object) => {
            if let Some(Value::Array(parts)) = object.get("allOf").cloned()
                && let [part] = parts.as_slice()
            {
                object.remove("allOf");
                object.remove("default");
                object.extend(part.as_object().cloned().unwrap_or_default());
            }
            if object.remove("oneOf").is_some() {
                object.insert("type".to_owned(), Value::from("string"));
            }
            if let Some(Value::String(reference)) = object.get("$ref") {
                let name = reference.strip_prefix(REFERENCE_PREFIX).unwrap_or(reference);
                let moved = format!("{DEFINITION_PREFIX}{name}");
                object.insert("$ref".to_owned(), Value::from(moved));
            }
            Value::Object(object.into_iter().map(|(key, value)| (key, convert_schema(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(convert_schema).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => schema,
    }
}

fn convert_item(item: Value) -> Value {
    let Value::Object(mut item) = item else { return item };
    for verb in VERBS {
        if let Some(operation) = item.get_mut(verb).and_then(Value::as_object_mut) {
            convert_operation(operation);
        }
    }
    if let Some(parameters) = item.get_mut("parameters") {
        convert_parameters(parameters);
    }
    Value::Object(item)
}

fn convert_operation(operation: &mut Map<String, Value>) {
    operation.insert("produces".to_owned(), json!(["application/json"]));
    operation.insert("schemes".to_owned(), json!(["https"]));
    if let Some(parameters) = operation.get_mut("parameters") {
        convert_parameters(parameters);
    }
    if let Some(Value::Object(body)) = operation.remove("requestBody") {
        let content = body.get("content").and_then(Value::as_object).cloned().unwrap_or_default();
        let consumes: Vec<String> = content.keys().cloned().collect();
        let schema =
            content.values().next().and_then(|entry| entry.get("schema")).cloned().unwrap_or(Value::Null);
        let parameter = json!({
            "name": "body", "in": "body", "required": body.get("required") == Some(&Value::Bool(true)),
            "schema": convert_schema(schema),
        });
        operation.insert("consumes".to_owned(), json!(consumes));
        if let Some(Value::Array(parameters)) = operation.get_mut("parameters") {
            parameters.insert(0, parameter);
        }
    }
    for (_, response) in operation.get_mut("responses").and_then(Value::as_object_mut).into_iter().flatten() {
        let Some(response) = response.as_object_mut() else { continue };
        let Some(content) = response.remove("content") else { continue };
        if let Some(schema) = content.pointer("/application~1json/schema") {
            response.insert("schema".to_owned(), convert_schema(schema.clone()));
        }
    }
}

/// The type of a v2 parameter stands beside its name.
fn convert_parameters(parameters: &mut Value) {
    for parameter in parameters.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        if let Some(Value::Object(schema)) = parameter.remove("schema") {
            parameter.extend(schema);
        }
    }
}
