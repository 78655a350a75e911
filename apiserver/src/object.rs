//! Reading and writing the fields that every API object shares, on JSON maps.

use serde_json::{Map, Value};

use crate::registry::Object;

/// Returns `metadata`, when present and an object.
pub(crate) fn metadata(object: &Object) -> Option<&Map<String, Value>> {
    object.get("metadata").and_then(Value::as_object)
}

/// Returns `metadata`, put in place when it is absent or no object.
pub(crate) fn metadata_mut(object: &mut Object) -> &mut Map<String, Value> {
    let slot = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut().expect("made an object above")
}

/// Returns a string field of `metadata`, empty when absent.
pub(crate) fn meta<'a>(object: &'a Object, field: &str) -> &'a str {
    metadata(object).and_then(|metadata| metadata.get(field)).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn name(object: &Object) -> &str {
    meta(object, "name")
}

pub(crate) fn namespace(object: &Object) -> &str {
    meta(object, "namespace")
}

pub(crate) fn uid(object: &Object) -> &str {
    meta(object, "uid")
}

/// Returns the resourceVersion that the object carries; `None` when absent, empty or no number.
pub(crate) fn resource_version(object: &Object) -> Option<i64> {
    meta(object, "resourceVersion").parse().ok()
}

pub(crate) fn set_meta(object: &mut Object, field: &str, value: impl Into<Value>) {
    metadata_mut(object).insert(field.to_owned(), value.into());
}

pub(crate) fn is_being_deleted(object: &Object) -> bool {
    !meta(object, "deletionTimestamp").is_empty()
}

/// Returns `metadata.finalizers`.
pub(crate) fn finalizers(object: &Object) -> Vec<String> {
    strings(metadata(object).and_then(|metadata| metadata.get("finalizers")))
}

pub(crate) fn set_finalizers(object: &mut Object, finalizers: Vec<String>) {
    let metadata = metadata_mut(object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), finalizers.into());
    }
}

/// Returns the value at a path of object keys.
pub(crate) fn at<'a>(object: &'a Object, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(object.get(*first)?, |value, key| value.get(key))
}

/// Returns the string at a path, empty when absent.
pub(crate) fn str_at<'a>(object: &'a Object, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// Sets the value at a path, making objects on the way.
pub(crate) fn set_at(object: &mut Object, path: &[&str], value: Value) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut current = object;
    for key in parents {
        let slot = current.entry(*key).or_insert_with(|| Value::Object(Map::new()));
        if !slot.is_object() {
            *slot = Value::Object(Map::new());
        }
        current = slot.as_object_mut().expect("made an object above");
    }
    current.insert((*last).to_owned(), value);
}

/// Returns the strings of a JSON array.
pub(crate) fn strings(value: Option<&Value>) -> Vec<String> {
    value
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}
