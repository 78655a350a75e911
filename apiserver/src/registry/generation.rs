//! `metadata.generation`: starts at 1 and grows with every change of the desired state.

use serde_json::Value;

use super::Object;
use super::value::{at, ensure, integer};

/// Sets the generation of a new object.
pub(super) fn start(object: &mut Object) {
    ensure(object, "metadata").insert("generation".to_owned(), Value::from(1));
}

/// Keeps the generation, or raises it when one of the paths differs from `old`.
pub(super) fn follow(object: &mut Object, old: &Object, paths: &[&[&str]]) {
    let before = integer(old, &["metadata", "generation"]).unwrap_or_default();
    let changed = paths.iter().any(|path| at(object, path) != at(old, path));
    let generation = if changed { before.saturating_add(1) } else { before };
    if generation > 0 {
        ensure(object, "metadata").insert("generation".to_owned(), Value::from(generation));
    }
}
