//! Makes findings with upstream's wording.

use serde_json::Value;

use super::super::{FieldError, FieldErrorReason as Reason};

/// The field must be given; `detail` may be empty.
pub fn required(field: impl Into<String>, detail: &str) -> FieldError {
    error(field, Reason::Required, "Required value", detail)
}

/// The value is wrong.
pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> FieldError {
    error(field, Reason::Invalid, &format!("Invalid value: {}", show(value)), detail)
}

/// The value is none of the known ones, which are shown in the given order.
pub fn not_supported(field: impl Into<String>, value: &str, known: &[&str]) -> FieldError {
    let known: Vec<String> = known.iter().map(|known| quote(known)).collect();
    let message = format!("Unsupported value: {}: supported values: {}", quote(value), known.join(", "));
    error(field, Reason::NotSupported, &message, "")
}

/// The value occurs twice where it must be unique.
pub fn duplicate(field: impl Into<String>, value: &Value) -> FieldError {
    error(field, Reason::Duplicate, &format!("Duplicate value: {}", show(value)), "")
}

/// The field may not be set, or not be changed.
pub fn forbidden(field: impl Into<String>, detail: &str) -> FieldError {
    error(field, Reason::Forbidden, "Forbidden", detail)
}

/// What the value names does not exist.
pub fn not_found(field: impl Into<String>, value: &Value) -> FieldError {
    error(field, Reason::NotFound, &format!("Not found: {}", show(value)), "")
}

/// The value has too many bytes.
pub fn too_long(field: impl Into<String>, bytes_max: usize) -> FieldError {
    error(field, Reason::TooLong, &format!("Too long: may not be more than {bytes_max} bytes"), "")
}

/// The list has too many items.
pub fn too_many(field: impl Into<String>, count: usize, max: usize) -> FieldError {
    error(field, Reason::TooMany, &format!("Too many: {count}: must have at most {max} items"), "")
}

/// Turns the texts of a name rule into findings.
pub fn all_invalid(field: &str, value: &str, findings: Vec<String>) -> Vec<FieldError> {
    findings.iter().map(|detail| invalid(field, &Value::from(value), detail)).collect()
}

/// Text of a field that may not change after creation.
pub const IMMUTABLE: &str = "field is immutable";

/// The field differs from `old` although it may not change.
pub fn unchanged(field: &str, new: Option<&Value>, old: Option<&Value>) -> Option<FieldError> {
    let absent = Value::Null;
    let (new, old) = (new.unwrap_or(&absent), old.unwrap_or(&absent));
    (new != old).then(|| invalid(field, new, IMMUTABLE))
}

fn error(field: impl Into<String>, reason: Reason, message: &str, detail: &str) -> FieldError {
    let message = if detail.is_empty() { message.to_owned() } else { format!("{message}: {detail}") };
    FieldError { field: field.into(), reason, message }
}

/// Shows a value the way upstream's messages do: text quoted, everything else as JSON.
fn show(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// Quotes text as Go's `%q` does for what occurs in API objects.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
