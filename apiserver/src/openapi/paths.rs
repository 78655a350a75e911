//! The paths of a document: what the catalogue says can be done, with the parameters that clients look for.

use serde_json::{Map, Value, json};

use super::META;
use crate::registry::catalog::{self, SubresourceFacts, VirtualKind};
use crate::registry::{Kind, Scope};
use crate::schema::{REFERENCE_PREFIX, Schemas};

const JSON_TYPES: [&str; 1] = ["application/json"];
const PATCH_TYPES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

/// Query parameters by the verbs that take them.
const WRITE_PARAMETERS: &[(&str, &str, &str)] = &[
    ("dryRun", "string", "\"All\" runs every stage and persists nothing."),
    ("fieldManager", "string", "Name of the actor that makes the change."),
    ("fieldValidation", "string", "What to do about unknown and duplicate fields: Ignore, Warn or Strict."),
];
const LIST_PARAMETERS: &[(&str, &str, &str)] = &[
    ("allowWatchBookmarks", "boolean", "Lets a watch send bookmarks."),
    ("continue", "string", "Token of the next page."),
    ("fieldSelector", "string", "Restricts by fields."),
    ("labelSelector", "string", "Restricts by labels."),
    ("limit", "integer", "Objects of one page."),
    ("resourceVersion", "string", "How fresh the answer must be, or where a watch starts."),
    ("resourceVersionMatch", "string", "How resourceVersion is meant: Exact or NotOlderThan."),
    ("sendInitialEvents", "boolean", "Lets a watch begin with the present state."),
    ("timeoutSeconds", "integer", "When the call ends."),
    ("watch", "boolean", "Streams changes instead of a list."),
];
const DELETE_PARAMETERS: &[(&str, &str, &str)] = &[
    ("dryRun", "string", "\"All\" runs every stage and persists nothing."),
    ("gracePeriodSeconds", "integer", "Time that the object has to end."),
    ("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    ("propagationPolicy", "string", "What happens to dependents: Orphan, Background or Foreground."),
];

/// Returns the paths of a group version.
pub(super) fn of_group_version(
    schemas: &Map<String, Value>,
    group: &str,
    version: &str,
) -> Map<String, Value> {
    let mut paths = Map::new();
    for kind in catalog::all().iter().filter(|kind| kind.group == group && kind.version == version) {
        add_kind(&mut paths, schemas, kind);
    }
    for kind in catalog::virtual_kinds().iter().filter(|kind| kind.group == group && kind.version == version)
    {
        add_virtual(&mut paths, kind);
    }
    paths
}

/// What one operation is made from.
struct Operation<'a> {
    verb: &'a str,
    action: &'a str,
    /// Group, version and kind of the body.
    body: (&'a str, &'a str, &'a str),
    /// Schema of the answer.
    answer: String,
    parameters: Vec<Value>,
    with_body: Option<(Vec<&'a str>, String)>,
}

fn add_kind(paths: &mut Map<String, Value>, schemas: &Map<String, Value>, kind: &Kind) {
    let root = root_path(kind.group, kind.version);
    let schema = schema_name(kind.group, kind.version, kind.kind);
    let collection = match kind.scope {
        Scope::Cluster => format!("{root}/{}", kind.resource),
        Scope::Namespaced => {
            let path = format!("{root}/{}", kind.resource);
            let list = list_operation(kind, &schema);
            paths.insert(path, path_item(&[], vec![list]));
            format!("{root}/namespaces/{{namespace}}/{}", kind.resource)
        }
    };
    let namespace: &[&str] = if kind.scope == Scope::Namespaced { &["namespace"] } else { &[] };
    let mut operations = vec![list_operation(kind, &schema), write_operation(kind, "post", &schema)];
    if kind.verbs().contains(&"deletecollection") {
        operations.push(delete_operation(kind, "deletecollection"));
    }
    paths.insert(collection.clone(), path_item(namespace, operations));
    let item = format!("{collection}/{{name}}");
    let names: Vec<&str> = std::iter::once("name").chain(namespace.iter().copied()).collect();
    let operations = vec![
        get_operation(kind, &schema),
        write_operation(kind, "put", &schema),
        write_operation(kind, "patch", &schema),
        delete_operation(kind, "delete"),
    ];
    paths.insert(item.clone(), path_item(&names, operations));
    for facts in kind.subresources.iter().map(|subresource| kind.describe(*subresource)) {
        let schema = schema_name(facts.group, facts.version, facts.kind);
        // Streams have no body that a schema could describe.
        if schemas.contains_key(&schema) && facts.name != "log" {
            paths.insert(
                format!("{item}/{}", facts.name),
                path_item(&names, subresource_operations(&facts, &schema)),
            );
        }
    }
}

fn add_virtual(paths: &mut Map<String, Value>, kind: &VirtualKind) {
    let root = root_path(kind.group, kind.version);
    let schema = schema_name(kind.group, kind.version, kind.kind);
    let (path, names): (String, &[&str]) = match kind.scope {
        Scope::Cluster => (format!("{root}/{}", kind.resource), &[]),
        Scope::Namespaced => (format!("{root}/namespaces/{{namespace}}/{}", kind.resource), &["namespace"]),
    };
    let body = (kind.group, kind.version, kind.kind);
    paths.insert(path, path_item(names, vec![write(body, "post", &schema)]));
}

fn subresource_operations(facts: &SubresourceFacts, schema: &str) -> Vec<Value> {
    let body = (facts.group, facts.version, facts.kind);
    let mut operations = Vec::new();
    for verb in facts.verbs {
        operations.push(match *verb {
            "get" => get(body, schema),
            "patch" => write(body, "patch", schema),
            "update" => write(body, "put", schema),
            _ => write(body, "post", schema),
        });
    }
    operations
}

fn list_operation(kind: &Kind, schema: &str) -> Value {
    Operation {
        verb: "get",
        action: "list",
        body: (kind.group, kind.version, kind.kind),
        answer: format!("{schema}List"),
        parameters: query(LIST_PARAMETERS),
        with_body: None,
    }
    .build()
}

fn get_operation(kind: &Kind, schema: &str) -> Value {
    get((kind.group, kind.version, kind.kind), schema)
}

fn get(body: (&str, &str, &str), schema: &str) -> Value {
    Operation {
        verb: "get",
        action: "get",
        body,
        answer: schema.to_owned(),
        parameters: Vec::new(),
        with_body: None,
    }
    .build()
}

fn write_operation(kind: &Kind, verb: &str, schema: &str) -> Value {
    write((kind.group, kind.version, kind.kind), verb, schema)
}

fn write(body: (&str, &str, &str), verb: &str, schema: &str) -> Value {
    let mut parameters = query(WRITE_PARAMETERS);
    let (action, types, sent) = match verb {
        "patch" => {
            parameters.extend(query(&[(
                "force",
                "boolean",
                "Takes fields over from other managers (apply only).",
            )]));
            ("patch", PATCH_TYPES.to_vec(), format!("{META}.Patch"))
        }
        "put" => ("put", JSON_TYPES.to_vec(), schema.to_owned()),
        _ => ("post", JSON_TYPES.to_vec(), schema.to_owned()),
    };
    Operation { verb, action, body, answer: schema.to_owned(), parameters, with_body: Some((types, sent)) }
        .build()
}

fn delete_operation(kind: &Kind, action: &str) -> Value {
    let mut parameters = query(DELETE_PARAMETERS);
    if action == "deletecollection" {
        parameters.extend(query(&[
            ("fieldSelector", "string", "Restricts by fields."),
            ("labelSelector", "string", "Restricts by labels."),
        ]));
    }
    Operation {
        verb: "delete",
        action,
        body: (kind.group, kind.version, kind.kind),
        answer: format!("{META}.Status"),
        parameters,
        with_body: Some((JSON_TYPES.to_vec(), format!("{META}.DeleteOptions"))),
    }
    .build()
}

impl Operation<'_> {
    /// Returns `{verb: operation}`.
    fn build(self) -> Value {
        let (group, version, kind) = self.body;
        let tag = if group.is_empty() {
            format!("core_{version}")
        } else {
            format!("{}_{version}", group.split('.').next().unwrap_or(group))
        };
        let answer = json!({"schema": {"$ref": format!("{REFERENCE_PREFIX}{}", self.answer)}});
        let mut operation = json!({
            "tags": [tag],
            "description": format!("{} {kind}", self.action),
            "parameters": self.parameters,
            "responses": {
                "200": {"description": "OK", "content": {"application/json": answer}},
                "401": {"description": "Unauthorized"},
            },
            "x-kubernetes-action": self.action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
        });
        if let (Some((types, schema)), Some(fields)) = (self.with_body, operation.as_object_mut()) {
            let body = json!({"schema": {"$ref": format!("{REFERENCE_PREFIX}{schema}")}});
            let content: Map<String, Value> =
                types.iter().map(|name| ((*name).to_owned(), body.clone())).collect();
            fields.insert(
                "requestBody".to_owned(),
                json!({"content": content, "required": self.verb != "delete"}),
            );
        }
        json!({self.verb: operation})
    }
}

/// Joins operations of one path, whose names stand in braces in it.
fn path_item(names: &[&str], operations: Vec<Value>) -> Value {
    let mut item = Map::new();
    for operation in operations {
        if let Value::Object(operation) = operation {
            item.extend(operation);
        }
    }
    if !names.is_empty() {
        let parameter = |name: &&str| {
            json!({"name": name, "in": "path", "required": true, "description": format!("The {name}."),
                "schema": {"type": "string", "uniqueItems": true}})
        };
        item.insert("parameters".to_owned(), names.iter().map(parameter).collect());
    }
    Value::Object(item)
}

fn query(parameters: &[(&str, &str, &str)]) -> Vec<Value> {
    parameters
        .iter()
        .map(|(name, kind, description)| {
            json!({"name": name, "in": "query", "description": description,
                "schema": {"type": kind, "uniqueItems": true}})
        })
        .collect()
}

fn root_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// Returns the schema of a kind, or a name that does not exist.
fn schema_name(group: &str, version: &str, kind: &str) -> String {
    Schemas::builtin().of_kind(group, version, kind).map(|schema| schema.name.clone()).unwrap_or_default()
}
