//! Checks of volumes: their names, that each has one source, and the sources the node agent knows.

use std::collections::BTreeSet;

use proto::api::names;
use serde_json::Value;

use super::super::super::validation::field::{all_invalid, duplicate, forbidden, invalid, required};
use super::super::super::value::{integer, object, objects, text};
use super::super::super::{FieldError, Object};

/// Largest mode of a projected file.
const MODE_MAX: i64 = 0o777;
/// Shortest life of a projected token.
const TOKEN_SECONDS_MIN: i64 = 600;

/// Checks the volumes of a pod's spec.
pub(super) fn validate(field: &str, spec: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, volume) in objects(spec, &["volumes"]).enumerate() {
        let field = format!("{field}[{index}]");
        let name = text(volume, &["name"]);
        if name.is_empty() {
            errors.push(required(format!("{field}.name"), ""));
        } else {
            errors.extend(all_invalid(&format!("{field}.name"), name, names::dns_label(name)));
            if !seen.insert(name) {
                errors.push(duplicate(format!("{field}.name"), &Value::from(name)));
            }
        }
        errors.extend(validate_source(&field, volume));
    }
    errors
}

fn validate_source(field: &str, volume: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let sources: Vec<&str> = volume
        .iter()
        .filter(|(name, value)| *name != "name" && !value.is_null())
        .map(|(name, _)| name.as_str())
        .collect();
    let sources = in_upstream_order(sources);
    if sources.is_empty() {
        errors.push(required(field, "must specify a volume type"));
    }
    for (position, name) in sources.into_iter().enumerate() {
        let field = format!("{field}.{name}");
        if position > 0 {
            errors.push(forbidden(field, "may not specify more than 1 volume type"));
            continue;
        }
        let Some(source) = object(volume, &[name]) else { continue };
        match name {
            "secret" => {
                if text(source, &["secretName"]).is_empty() {
                    errors.push(required(format!("{field}.secretName"), ""));
                }
                errors.extend(validate_files(&field, source));
            }
            "configMap" => {
                if text(source, &["name"]).is_empty() {
                    errors.push(required(format!("{field}.name"), ""));
                }
                errors.extend(validate_files(&field, source));
            }
            "downwardAPI" => errors.extend(validate_files(&field, source)),
            "hostPath" => {
                errors.extend(validate_path(&format!("{field}.path"), text(source, &["path"]), false))
            }
            "projected" => errors.extend(validate_projected(&field, source)),
            "persistentVolumeClaim" if text(source, &["claimName"]).is_empty() => {
                errors.push(required(format!("{field}.claimName"), ""));
            }
            "image" if text(source, &["reference"]).is_empty() => {
                errors.push(required(format!("{field}.reference"), ""));
            }
            "csi" if text(source, &["driver"]).is_empty() => {
                errors.push(required(format!("{field}.driver"), ""))
            }
            "ephemeral" if source.get("volumeClaimTemplate").is_none() => {
                errors.push(required(format!("{field}.volumeClaimTemplate"), ""));
            }
            "emptyDir" if text(source, &["sizeLimit"]).starts_with('-') => {
                let detail = "SizeLimit field must be a valid resource quantity";
                errors.push(forbidden(format!("{field}.sizeLimit"), detail));
            }
            _ => {}
        }
    }
    errors
}

/// Upstream looks at sources in this order; the first one given counts, every further one is too many.
fn in_upstream_order(mut sources: Vec<&str>) -> Vec<&str> {
    const ORDER: [&str; 6] = ["emptyDir", "hostPath", "secret", "downwardAPI", "configMap", "projected"];
    sources.sort_by_key(|name| ORDER.iter().position(|known| known == name).unwrap_or(ORDER.len()));
    sources
}

fn validate_projected(field: &str, projected: &Object) -> Vec<FieldError> {
    let mut errors = validate_mode(&format!("{field}.defaultMode"), projected, "defaultMode")
        .into_iter()
        .collect::<Vec<_>>();
    for (index, source) in objects(projected, &["sources"]).enumerate() {
        let parent = field;
        let field = format!("{field}.sources[{index}]");
        if source.values().filter(|value| !value.is_null()).count() > 1 {
            errors.push(forbidden(&field, "may not specify more than 1 volume type per source"));
        }
        for name in ["secret", "configMap"] {
            let Some(source) = object(source, &[name]) else { continue };
            if text(source, &["name"]).is_empty() {
                errors.push(required(format!("{field}.{name}.name"), ""));
            }
            errors.extend(validate_items(&format!("{field}.{name}"), source));
        }
        let Some(token) = object(source, &["serviceAccountToken"]) else { continue };
        let field = format!("{field}.serviceAccountToken");
        let seconds = integer(token, &["expirationSeconds"]).unwrap_or_default();
        if seconds < TOKEN_SECONDS_MIN {
            let detail = "may not specify a duration less than 10 minutes";
            errors.push(invalid(format!("{field}.expirationSeconds"), &Value::from(seconds), detail));
        }
        if text(token, &["path"]).is_empty() {
            // Upstream leaves the source out of this path.
            errors.push(required(format!("{parent}.path"), ""));
        } else {
            errors.extend(validate_path(&format!("{field}.path"), text(token, &["path"]), true));
        }
    }
    errors
}

fn validate_files(field: &str, source: &Object) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> =
        validate_mode(&format!("{field}.defaultMode"), source, "defaultMode").into_iter().collect();
    errors.extend(validate_items(field, source));
    errors
}

fn validate_items(field: &str, source: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, item) in objects(source, &["items"]).enumerate() {
        let field = format!("{field}.items[{index}]");
        if item.contains_key("key") && text(item, &["key"]).is_empty() {
            errors.push(required(format!("{field}.key"), ""));
        }
        errors.extend(validate_path(&format!("{field}.path"), text(item, &["path"]), true));
        errors.extend(validate_mode(&format!("{field}.mode"), item, "mode"));
    }
    errors
}

fn validate_mode(field: &str, source: &Object, name: &str) -> Option<FieldError> {
    let mode = integer(source, &[name])?;
    let detail = "must be a number between 0 and 0777 (octal), both inclusive";
    (!(0..=MODE_MAX).contains(&mode)).then(|| invalid(field, &Value::from(mode), detail))
}

/// Checks a path that must stay below its folder; `relative` ones also must not start at the root.
fn validate_path(field: &str, path: &str, relative: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let value = Value::from(path);
    if path.is_empty() {
        return vec![required(field, "")];
    }
    if relative && path.starts_with('/') {
        errors.push(invalid(field, &value, "must be a relative path"));
    }
    if path.split('/').any(|part| part == "..") {
        errors.push(invalid(field, &value, "must not contain '..'"));
    }
    if relative && path.starts_with("..") && !path.starts_with("../") && path != ".." {
        errors.push(invalid(field, &value, "must not start with '..'"));
    }
    errors
}
