//! Discovery documents, made from the catalogue: which groups, versions, resources and verbs are served.
//!
//! Pure and deterministic. Legacy documents list one group version each; the aggregated document (v2, and v2beta1 for older
//! clients) lists everything at once.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::registry::catalog::{self, VirtualKind};
use crate::registry::{Kind, Scope, Subresource};

/// Version of the aggregated format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregatedVersion {
    V2,
    V2beta1,
}

/// Which part of the API an aggregated document is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// `/api`: the core group.
    Core,
    /// `/apis`: every other group.
    Groups,
}

/// Returns the answer of `GET /api`; `server_address` is `host:port` as clients reach it.
pub fn api_versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    })
}

/// Returns the answer of `GET /apis`.
pub fn group_list() -> Value {
    let groups: Vec<Value> = group_names().into_iter().map(group_entry).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// Returns the answer of `GET /apis/<group>`.
pub fn group(name: &str) -> Option<Value> {
    let name = group_names().into_iter().find(|known| *known == name)?;
    let mut entry = group_entry(name);
    let fields = entry.as_object_mut()?;
    fields.insert("kind".to_owned(), Value::from("APIGroup"));
    fields.insert("apiVersion".to_owned(), Value::from("v1"));
    Some(entry)
}

/// Returns the answer of `GET /api/v1` (empty group) or `GET /apis/<group>/<version>`.
pub fn resource_list(group: &str, version: &str) -> Option<Value> {
    let mut resources: Vec<Value> = Vec::new();
    for kind in catalog::all().iter().filter(|kind| kind.group == group && kind.version == version) {
        resources.push(resource_entry(kind));
        resources.extend(kind.subresources.iter().map(|subresource| subresource_entry(kind, *subresource)));
    }
    for kind in catalog::virtual_kinds().iter().filter(|kind| kind.group == group && kind.version == version)
    {
        resources.push(json!({
            "name": kind.resource,
            "singularName": kind.singular,
            "namespaced": kind.scope == Scope::Namespaced,
            "kind": kind.kind,
            "verbs": ["create"],
        }));
    }
    if resources.is_empty() {
        return None;
    }
    resources
        .sort_by_key(|resource| resource.get("name").and_then(Value::as_str).unwrap_or_default().to_owned());
    let group_version = group_version(group, version);
    let mut list = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": resources});
    // The core document is older than versioned discovery and lacks the field, as upstream's does.
    if !group.is_empty()
        && let Some(fields) = list.as_object_mut()
    {
        fields.insert("apiVersion".to_owned(), Value::from("v1"));
    }
    Some(list)
}

/// Returns the aggregated document of `/api` or `/apis`.
pub fn aggregated(version: AggregatedVersion, root: Root) -> Value {
    let groups = match root {
        Root::Core => vec![""],
        Root::Groups => group_names(),
    };
    let items: Vec<Value> = groups.into_iter().map(aggregated_group).collect();
    let api_version = match version {
        AggregatedVersion::V2 => "apidiscovery.k8s.io/v2",
        AggregatedVersion::V2beta1 => "apidiscovery.k8s.io/v2beta1",
    };
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": api_version, "metadata": {}, "items": items})
}

/// Returns the hash of a document, for its `ETag`.
pub fn document_hash(document: &Value) -> String {
    hex::encode_upper(Sha256::digest(document.to_string().as_bytes()))
}

/// Returns the named groups that are served.
fn group_names() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for (group, _) in catalog::group_versions() {
        if !group.is_empty() && !names.contains(&group) {
            names.push(group);
        }
    }
    names
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn group_entry(name: &str) -> Value {
    let versions: Vec<Value> = catalog::group_versions()
        .into_iter()
        .filter(|(group, _)| *group == name)
        .map(|(group, version)| json!({"groupVersion": group_version(group, version), "version": version}))
        .collect();
    let preferred = versions.first().cloned().unwrap_or(Value::Null);
    json!({"name": name, "versions": versions, "preferredVersion": preferred})
}

fn resource_entry(kind: &Kind) -> Value {
    let mut entry = json!({
        "name": kind.resource,
        "singularName": kind.singular,
        "namespaced": kind.scope == Scope::Namespaced,
        "kind": kind.kind,
        "verbs": kind.verbs(),
        "storageVersionHash": storage_version_hash(kind),
    });
    add_names(&mut entry, kind);
    entry
}

fn subresource_entry(kind: &Kind, subresource: Subresource) -> Value {
    let facts = kind.describe(subresource);
    let mut entry = json!({
        "name": format!("{}/{}", kind.resource, facts.name),
        "singularName": "",
        "namespaced": kind.scope == Scope::Namespaced,
        "kind": facts.kind,
        "verbs": facts.verbs,
    });
    if (facts.group, facts.version) != (kind.group, kind.version)
        && let Some(fields) = entry.as_object_mut()
    {
        fields.insert("group".to_owned(), Value::from(facts.group));
        fields.insert("version".to_owned(), Value::from(facts.version));
    }
    entry
}

fn aggregated_group(name: &str) -> Value {
    let versions: Vec<Value> = catalog::group_versions()
        .into_iter()
        .filter(|(group, _)| *group == name)
        .map(|(group, version)| {
            json!({"version": version, "resources": aggregated_resources(group, version), "freshness": "Current"})
        })
        .collect();
    let metadata = if name.is_empty() { json!({}) } else { json!({"name": name}) };
    json!({"metadata": metadata, "versions": versions})
}

fn aggregated_resources(group: &str, version: &str) -> Vec<Value> {
    let stored = catalog::all().iter().filter(|kind| kind.group == group && kind.version == version);
    let posted =
        catalog::virtual_kinds().iter().filter(|kind| kind.group == group && kind.version == version);
    let mut resources: Vec<Value> =
        stored.map(aggregated_resource).chain(posted.map(aggregated_virtual)).collect();
    resources.sort_by_key(|resource| {
        resource.get("resource").and_then(Value::as_str).unwrap_or_default().to_owned()
    });
    resources
}

fn aggregated_resource(kind: &Kind) -> Value {
    let mut entry = json!({
        "resource": kind.resource,
        "responseKind": response_kind("", "", kind.kind),
        "scope": scope(kind.scope),
        "singularResource": kind.singular,
        "verbs": kind.verbs(),
    });
    add_names(&mut entry, kind);
    let mut subresources: Vec<Value> = kind
        .subresources
        .iter()
        .map(|subresource| {
            let facts = kind.describe(*subresource);
            let own = (facts.group, facts.version) == (kind.group, kind.version);
            let (group, version) = if own { ("", "") } else { (facts.group, facts.version) };
            json!({
                "subresource": facts.name,
                "responseKind": response_kind(group, version, facts.kind),
                "verbs": facts.verbs,
            })
        })
        .collect();
    subresources
        .sort_by_key(|entry| entry.get("subresource").and_then(Value::as_str).unwrap_or_default().to_owned());
    if !subresources.is_empty()
        && let Some(fields) = entry.as_object_mut()
    {
        fields.insert("subresources".to_owned(), Value::Array(subresources));
    }
    entry
}

fn aggregated_virtual(kind: &VirtualKind) -> Value {
    json!({
        "resource": kind.resource,
        "responseKind": response_kind("", "", kind.kind),
        "scope": scope(kind.scope),
        "singularResource": kind.singular,
        "verbs": ["create"],
    })
}

/// Group and version are empty when they are those of the document around.
fn response_kind(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::Cluster => "Cluster",
        Scope::Namespaced => "Namespaced",
    }
}

fn add_names(entry: &mut Value, kind: &Kind) {
    let Some(fields) = entry.as_object_mut() else { return };
    if !kind.short_names.is_empty() {
        fields.insert("shortNames".to_owned(), json!(kind.short_names));
    }
    if !kind.categories.is_empty() {
        fields.insert("categories".to_owned(), json!(kind.categories));
    }
}

/// Any stable text will do: it only has to change when the stored form does.
fn storage_version_hash(kind: &Kind) -> String {
    use base64::Engine;
    let digest = Sha256::digest(format!("{}/{}/{}", kind.group, kind.version, kind.kind).as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest.get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests;
