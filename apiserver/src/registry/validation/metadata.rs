//! Checks of `metadata`, the same for every kind but for the rule of its name.

use proto::api::names;
use serde_json::Value;

use super::super::value::{at, entries, integer, list, text};
use super::super::{FieldError, Object};
use super::field::{all_invalid, forbidden, invalid, quote, required, too_long, unchanged};

/// All annotations of an object together may have this many bytes (upstream's limit).
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
/// Finalizers that need no domain before them.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// What a kind demands of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// A DNS subdomain, as most kinds.
    Subdomain,
    /// A DNS label, as namespaces.
    Label,
    /// A DNS label that begins with a letter, as services.
    Label1035,
    /// Whatever fits into a path, as roles.
    PathSegment,
}

impl NameRule {
    /// Returns the findings about a name; none when it is valid.
    pub fn check(self, name: &str) -> Vec<String> {
        match self {
            Self::Subdomain => names::dns_subdomain(name),
            Self::Label => names::dns_label(name),
            Self::Label1035 => names::dns_1035_label(name),
            Self::PathSegment => names::path_segment(name),
        }
    }

    /// Checks the stem of a generated name, which may end in a dash.
    fn check_stem(self, stem: &str) -> Vec<String> {
        match stem.strip_suffix('-') {
            Some(rest) if !rest.is_empty() => self.check(&format!("{rest}a")),
            _ => self.check(stem),
        }
    }
}

/// Checks the metadata of a new object.
pub fn validate(object: &Object, rule: NameRule) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let stem = text(object, &["metadata", "generateName"]);
    if !stem.is_empty() {
        errors.extend(all_invalid("metadata.generateName", stem, rule.check_stem(stem)));
    }
    let name = text(object, &["metadata", "name"]);
    if name.is_empty() {
        errors.push(required("metadata.name", "name or generateName is required"));
    } else {
        errors.extend(all_invalid("metadata.name", name, rule.check(name)));
    }
    if integer(object, &["metadata", "generation"]).is_some_and(|generation| generation < 0) {
        let generation = at(object, &["metadata", "generation"]).unwrap_or(&Value::Null);
        errors.push(invalid("metadata.generation", generation, "must be greater than or equal to 0"));
    }
    errors.extend(labels(object, "metadata.labels", &["metadata", "labels"]));
    errors.extend(annotations(object, "metadata.annotations", &["metadata", "annotations"]));
    errors.extend(owner_references(object));
    errors.extend(finalizers(object));
    errors
}

/// Checks the metadata of a change.
pub fn validate_update(object: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = labels(object, "metadata.labels", &["metadata", "labels"]);
    errors.extend(annotations(object, "metadata.annotations", &["metadata", "annotations"]));
    errors.extend(owner_references(object));
    errors.extend(finalizers(object));
    if at(old, &["metadata", "deletionTimestamp"]).is_some() {
        let known = list(old, &["metadata", "finalizers"]);
        let added: Vec<String> = list(object, &["metadata", "finalizers"])
            .iter()
            .filter(|finalizer| !known.contains(finalizer))
            .map(|finalizer| quote(finalizer.as_str().unwrap_or_default()))
            .collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.push(forbidden("metadata.finalizers", &detail));
        }
    }
    for field in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        let path = ["metadata", field];
        errors.extend(unchanged(&format!("metadata.{field}"), at(object, &path), at(old, &path)));
    }
    errors
}

/// Checks a map of labels.
pub fn labels(object: &Object, field: &str, path: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in entries(object, path) {
        errors.extend(all_invalid(field, key, names::qualified_name(key)));
        let value = value.as_str().unwrap_or_default();
        errors.extend(all_invalid(field, value, names::label_value(value)));
    }
    errors
}

/// Checks a map of annotations; keys are compared in lower case, as upstream does.
pub fn annotations(object: &Object, field: &str, path: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut bytes = 0;
    for (key, value) in entries(object, path) {
        errors.extend(all_invalid(field, key, names::qualified_name(&key.to_lowercase())));
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.push(too_long(field, ANNOTATIONS_BYTES_MAX));
    }
    errors
}

fn owner_references(object: &Object) -> Vec<FieldError> {
    const FIELD: &str = "metadata.ownerReferences";
    let mut errors = Vec::new();
    let mut controller: Option<String> = None;
    let references = list(object, &["metadata", "ownerReferences"]);
    for value in references {
        let Some(reference) = value.as_object() else { continue };
        let api_version = text(reference, &["apiVersion"]);
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = text(reference, &["kind"]);
        if version.is_empty() {
            let value = Value::from(api_version);
            errors.push(invalid(format!("{FIELD}.apiVersion"), &value, "version must not be empty"));
        }
        for field in ["kind", "name", "uid"] {
            if text(reference, &[field]).is_empty() {
                errors.push(invalid(format!("{FIELD}.{field}"), &Value::from(""), "must not be empty"));
            }
        }
        if group.is_empty() && version == "v1" && kind == "Event" {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(invalid(FIELD, value, detail));
        }
        if reference.get("controller") == Some(&Value::Bool(true)) {
            let name = format!("{kind}/{}", text(reference, &["name"]));
            match &controller {
                Some(first) => {
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and \
                         {name}"
                    );
                    errors.push(invalid(FIELD, &Value::from(references), &detail));
                }
                None => controller = Some(name),
            }
        }
    }
    errors
}

fn finalizers(object: &Object) -> Vec<FieldError> {
    const FIELD: &str = "metadata.finalizers";
    let mut errors = Vec::new();
    let finalizers = list(object, &["metadata", "finalizers"]);
    for (index, finalizer) in finalizers.iter().filter_map(Value::as_str).enumerate() {
        let findings = all_invalid(FIELD, finalizer, names::qualified_name(finalizer));
        if findings.is_empty() {
            errors.extend(qualified_finalizer(&format!("{FIELD}[{index}]"), finalizer));
        }
        errors.extend(findings);
    }
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    if has("orphan") && has("foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(invalid(FIELD, &Value::from(finalizers), detail));
    }
    errors
}

/// A finalizer without a domain must be one of upstream's own.
pub fn qualified_finalizer(field: &str, finalizer: &str) -> Option<FieldError> {
    let known = finalizer.contains('/') || STANDARD_FINALIZERS.contains(&finalizer);
    (!known).then(|| {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        invalid(field, &Value::from(finalizer), detail)
    })
}
