//! Objects of the API as the store's log shows them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::Record;
use super::super::witness::LogEntry;

/// One version of an object, or its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Change<'a> {
    pub revision: i64,
    pub key: &'a str,
    /// The key without its folder.
    pub name: &'a str,
    /// Whether there was no such object before.
    pub is_new: bool,
    /// `None` is its deletion.
    pub object: Option<Value>,
}

/// Returns every change of objects in a folder, by revision.
///
/// # Errors
/// An object that cannot be read.
pub fn changes<'a>(record: &'a Record, folder: &str) -> Result<Vec<Change<'a>>, String> {
    let mut entries: BTreeMap<(i64, &str), &LogEntry> = BTreeMap::new();
    // What stands in a log at the end counts where the two differ; that members agree is the convergence checker's business.
    for entry in record.live.iter().chain(&record.logs).flat_map(|(_, log)| log) {
        if entry.key.starts_with(folder) {
            entries.insert((entry.revision, &entry.key), entry);
        }
    }
    entries.into_values().map(|entry| change(entry, folder)).collect()
}

fn change<'a>(entry: &'a LogEntry, folder: &str) -> Result<Change<'a>, String> {
    let object = match &entry.state {
        None => None,
        Some(state) => {
            let unread =
                |error| format!("{} at revision {} cannot be read: {error}", entry.key, entry.revision);
            Some(serde_json::from_str(&state.value).map_err(unread)?)
        }
    };
    let is_new = entry.state.as_ref().is_some_and(|state| state.create_revision == entry.revision);
    let name = entry.key.strip_prefix(folder).unwrap_or(&entry.key);
    Ok(Change { revision: entry.revision, key: &entry.key, name, is_new, object })
}

/// Returns an object's uid.
#[must_use]
pub fn uid(object: &Value) -> Option<&str> {
    object.pointer("/metadata/uid").and_then(Value::as_str)
}

/// Returns the uids of an object's owners.
#[must_use]
pub fn owners(object: &Value) -> Vec<String> {
    let references = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let uid = |reference: &Value| reference.get("uid").and_then(Value::as_str).map(str::to_owned);
    references.into_iter().flatten().filter_map(uid).collect()
}

/// Whether an object is on its way out.
#[must_use]
pub fn is_deleting(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

/// Whether a pod says that it is ready.
#[must_use]
pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let says_so =
        |condition: &Value| text(condition, "/type") == "Ready" && text(condition, "/status") == "True";
    conditions.into_iter().flatten().any(says_so)
}

/// Whether all that a pod had to do is done, well or not.
#[must_use]
pub fn is_over(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// Returns a number of an object, 0 where there is none.
#[must_use]
pub fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

/// Returns a text of an object, empty where there is none.
#[must_use]
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
