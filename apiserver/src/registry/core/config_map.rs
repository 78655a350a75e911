//! ConfigMaps: text and bytes under keys that become file names.

use serde_json::Value;

use super::super::table::{AGE, NAME, age, column, name};
use super::super::validation::field::{all_invalid, forbidden, too_long};
use super::super::validation::metadata::{self, NameRule};
use super::super::value::{entries, is_true};
use super::super::{Column, Context, FieldError, Object, Part, Strategy};
use proto::api::names;

/// Keys and values of one object together (upstream's limit).
pub(super) const DATA_BYTES_MAX: usize = 1024 * 1024;

/// The strategy of ConfigMaps.
pub(in crate::registry) struct ConfigMap;

impl Strategy for ConfigMap {
    fn default(&self, _object: &mut Object) {}

    fn prepare_create(&self, _context: &Context<'_>, _object: &mut Object) {}

    fn prepare_update(&self, _context: &Context<'_>, _part: Part, _object: &mut Object, _old: &Object) {}

    fn validate(&self, object: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate(object, NameRule::Subdomain);
        errors.extend(validate_data(object));
        errors
    }

    fn validate_update(&self, _part: Part, object: &Object, old: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate_update(object, old);
        errors.extend(validate_immutable(object, old, &["data", "binaryData"]));
        errors.extend(validate_data(object));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, column("Data", "string", "Number of keys."), AGE];
        COLUMNS
    }

    fn row(&self, object: &Object, now: &str) -> Vec<Value> {
        let count = entries(object, &["data"]).count() + entries(object, &["binaryData"]).count();
        vec![name(object), Value::from(count), age(object, now)]
    }
}

fn validate_data(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut bytes = 0;
    for (key, value) in entries(object, &["data"]) {
        errors.extend(all_invalid(&format!("data[{key}]"), key, names::config_key(key)));
        if entries(object, &["binaryData"]).any(|(other, _)| other == key) {
            errors.push(super::super::validation::field::invalid(
                format!("data[{key}]"),
                &Value::from(key.as_str()),
                "duplicate of key present in binaryData",
            ));
        }
        bytes += value.as_str().map_or(0, str::len);
    }
    for (key, value) in entries(object, &["binaryData"]) {
        errors.extend(all_invalid(&format!("binaryData[{key}]"), key, names::config_key(key)));
        bytes += decoded_length(value);
    }
    if bytes > DATA_BYTES_MAX {
        errors.push(too_long("[]", DATA_BYTES_MAX));
    }
    errors
}

/// Returns the number of bytes that a base64 text stands for.
pub(super) fn decoded_length(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default().trim_end_matches('=');
    text.len() / 4 * 3 + (text.len() % 4 * 3) / 4
}

/// Once `immutable` is set, neither it nor the data may change.
pub(super) fn validate_immutable(object: &Object, old: &Object, fields: &[&'static str]) -> Vec<FieldError> {
    const DETAIL: &str = "field is immutable when `immutable` is set";
    if !is_true(old, &["immutable"]) {
        return Vec::new();
    }
    let mut errors = Vec::new();
    if !is_true(object, &["immutable"]) {
        errors.push(forbidden("immutable", DETAIL));
    }
    let content = |object: &Object, field: &str| {
        entries(object, &[field]).map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>()
    };
    for field in fields {
        if content(object, field) != content(old, field) {
            errors.push(forbidden(*field, DETAIL));
        }
    }
    errors
}
