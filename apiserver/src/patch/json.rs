//! JSON patch (RFC 6902) with limits on how much one request may ask for.

use json_patch::{AddOperation, PatchOperation};
use serde_json::Value;

use super::PatchError;
use crate::registry::Object;

/// Operations of one patch (upstream's limit).
const OPERATIONS_MAX: usize = 10_000;
/// `copy` can double an object with every step; this bounds the result (upstream's request limit).
const RESULT_BYTES_MAX: usize = 3 * 1024 * 1024;

/// What upstream answers when an operation does not fit; the reason stays with the server.
const REJECTED: &str = "the server rejected our request due to an error in our request";

/// Returns what the patch makes of `object`.
///
/// # Errors
/// A malformed patch, too many operations, or an operation that does not fit the object.
pub fn apply(object: &Object, patch: &[u8]) -> Result<Value, PatchError> {
    let operations: Vec<Object> = serde_json::from_slice(patch)
        .map_err(|error| PatchError::Malformed(format!("error decoding patch: {error}")))?;
    if operations.len() > OPERATIONS_MAX {
        return Err(PatchError::TooLarge(format!(
            "Request entity too large: The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            operations.len()
        )));
    }
    let rejected = || PatchError::NotApplicable(REJECTED.to_owned());
    let mut patched = Value::Object(object.clone());
    let mut copied_bytes = 0;
    for operation in operations {
        let mut operation = serde_json::from_value(Value::Object(operation)).map_err(|_| rejected())?;
        if let PatchOperation::Copy(copy) = &operation {
            copied_bytes += patched.pointer(copy.from.as_str()).map_or(0, |value| value.to_string().len());
            if copied_bytes > RESULT_BYTES_MAX {
                return Err(PatchError::TooLarge(
                    "Request entity too large: the patch copies too much".to_owned(),
                ));
            }
        }
        relax_replace(&mut operation, &patched);
        json_patch::patch_unsafe(&mut patched, std::slice::from_ref(&operation)).map_err(|_| rejected())?;
    }
    Ok(patched)
}

/// Upstream lets `replace` create a missing key; the RFC does not.
fn relax_replace(operation: &mut PatchOperation, document: &Value) {
    if let PatchOperation::Replace(replace) = operation
        && document.pointer(replace.path.as_str()).is_none()
    {
        let (path, value) = (replace.path.clone(), replace.value.clone());
        *operation = PatchOperation::Add(AddOperation { path, value });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(object: Value, patch: Value) -> Result<Value, PatchError> {
        apply(object.as_object().unwrap(), patch.to_string().as_bytes())
    }

    #[test]
    fn operations_run_in_order() {
        let patched = check(
            json!({"a": [1, 2], "b": {"c": 1}}),
            json!([
                {"op": "test", "path": "/a/0", "value": 1},
                {"op": "add", "path": "/a/-", "value": 3},
                {"op": "remove", "path": "/b/c"},
                {"op": "replace", "path": "/a/0", "value": 0},
            ]),
        );
        assert_eq!(patched, Ok(json!({"a": [0, 2, 3], "b": {}})));
    }

    #[test]
    fn a_failed_test_or_missing_path_is_not_applicable() {
        for patch in [
            json!([{"op": "test", "path": "/a", "value": 2}]),
            json!([{"op": "remove", "path": "/zz"}]),
            json!([{"op": "replace", "path": "/a/b/c", "value": 1}]),
        ] {
            assert!(matches!(check(json!({"a": 1}), patch), Err(PatchError::NotApplicable(_))));
        }
    }

    #[test]
    fn no_patch_and_too_many_operations_are_refused() {
        assert!(matches!(check(json!({}), json!({"op": "add"})), Err(PatchError::Malformed(_))));
        assert!(matches!(
            check(json!({}), json!([{"op": "frob", "path": "/a"}])),
            Err(PatchError::NotApplicable(_))
        ));
        let many = vec![json!({"op": "test", "path": "", "value": {}}); OPERATIONS_MAX + 1];
        assert!(matches!(check(json!({}), json!(many)), Err(PatchError::TooLarge(_))));
    }

    #[test]
    fn repeated_copies_are_bounded() {
        let mut operations = vec![json!({"op": "add", "path": "/a", "value": "x".repeat(100_000)})];
        operations
            .extend((0..40).map(|index| json!({"op": "copy", "from": "/a", "path": format!("/b{index}")})));
        assert!(matches!(check(json!({}), json!(operations)), Err(PatchError::TooLarge(_))));
    }
}
