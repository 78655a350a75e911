//! Texts of type errors as upstream's JSON decoder words them.

use serde_json::Value;

use super::Shape;

/// Names the JSON type of a value; numbers are shown when their value is what does not fit.
pub(super) fn json_type(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

/// Names a type as upstream's messages do: `int32`, `map[string]string`, `[]v1.Container`.
pub(super) fn type_name(shape: &Shape) -> String {
    match shape {
        Shape::Struct(name) => short_name(name),
        Shape::Map(values) => format!("map[string]{}", type_name(values)),
        Shape::List(items) => format!("[]{}", type_name(items)),
        Shape::Text => "string".to_owned(),
        Shape::Bytes => "[]uint8".to_owned(),
        Shape::Time => "v1.Time".to_owned(),
        Shape::MicroTime => "v1.MicroTime".to_owned(),
        Shape::Int32 | Shape::IntOrString => "int32".to_owned(),
        Shape::Int64 => "int64".to_owned(),
        Shape::Number => "float64".to_owned(),
        Shape::Boolean => "bool".to_owned(),
        Shape::Quantity => "resource.Quantity".to_owned(),
        Shape::Any => "interface {}".to_owned(),
    }
}

/// Shortens `io.k8s.api.core.v1.PodSpec` to `v1.PodSpec`.
fn short_name(name: &str) -> String {
    let mut parts = name.rsplitn(3, '.');
    let (kind, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("{package}.{kind}")
}
