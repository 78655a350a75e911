//! Reading and writing JSON objects by path; `null` reads as absent everywhere.

use serde_json::{Map, Value};

use super::Object;

/// Returns the value at a path, if it is there and not null.
pub fn at<'a>(object: &'a Object, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let mut value = object.get(*first)?;
    for key in rest {
        value = value.get(*key)?;
    }
    Some(value).filter(|value| !value.is_null())
}

/// Returns the text at a path, or the empty string.
pub fn text<'a>(object: &'a Object, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the whole number at a path.
pub fn integer(object: &Object, path: &[&str]) -> Option<i64> {
    at(object, path).and_then(Value::as_i64)
}

/// Reports whether the path holds `true`.
pub fn is_true(object: &Object, path: &[&str]) -> bool {
    at(object, path).and_then(Value::as_bool) == Some(true)
}

/// Returns the list at a path, empty when absent.
pub fn list<'a>(object: &'a Object, path: &[&str]) -> &'a [Value] {
    at(object, path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Returns the objects of the list at a path.
pub fn objects<'a>(object: &'a Object, path: &[&str]) -> impl Iterator<Item = &'a Object> {
    list(object, path).iter().filter_map(Value::as_object)
}

/// Returns the object at a path.
pub fn object<'a>(object: &'a Object, path: &[&str]) -> Option<&'a Object> {
    at(object, path).and_then(Value::as_object)
}

/// Returns the entries of the object at a path, empty when absent.
pub fn entries<'a>(object: &'a Object, path: &[&str]) -> impl Iterator<Item = (&'a String, &'a Value)> {
    self::object(object, path).into_iter().flatten()
}

/// Returns the object under `key`, made if it is not there.
pub fn ensure<'a>(object: &'a mut Object, key: &str) -> &'a mut Object {
    let value = object.entry(key).or_insert_with(|| Value::Object(Map::new()));
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("the line above made it an object")
}

/// Returns the object under `key` for changing, if it is there.
pub fn object_mut<'a>(object: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    object.get_mut(key).and_then(Value::as_object_mut)
}

/// Returns the objects of the list under `key` for changing.
pub fn objects_mut<'a>(object: &'a mut Object, key: &str) -> impl Iterator<Item = &'a mut Object> {
    object.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Sets `key` unless it already has a value.
pub fn set_default(object: &mut Object, key: &str, value: impl Into<Value>) {
    if object.get(key).is_none_or(Value::is_null) {
        object.insert(key.to_owned(), value.into());
    }
}

/// Sets the text under `key` unless one is there; upstream treats the empty string as absent.
pub fn set_default_text(object: &mut Object, key: &str, value: &str) {
    if object.get(key).and_then(Value::as_str).unwrap_or_default().is_empty() {
        object.insert(key.to_owned(), Value::from(value));
    }
}

/// Copies `key` from `old`, or removes it when `old` has none.
pub fn carry_over(object: &mut Object, old: &Object, key: &str) {
    match old.get(key) {
        Some(value) => {
            object.insert(key.to_owned(), value.clone());
        }
        None => {
            object.remove(key);
        }
    }
}
