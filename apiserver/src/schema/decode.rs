//! Reads a request body by its schema: unknown and duplicate fields become findings, wrong types an error.
//!
//! Findings come in document order, as upstream reports them. The result is pruned (unknown fields are gone), nulls are
//! dropped, empty lists and maps too, and quantities and times are in canonical form: what is stored does not depend on how
//! a client spelled it.

use std::cell::RefCell;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use proto::api::quantity::Quantity;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{Schemas, Shape, Struct, go_text};
use crate::registry::Object;

/// Findings of one body that are kept; the rest is counted as nothing new.
const FINDINGS_MAX: usize = 100;

/// What a body was read as.
#[derive(Debug, PartialEq)]
pub struct Decoded {
    pub object: Object,
    /// Unknown and duplicate fields, in document order: warnings, or errors under strict validation.
    pub findings: Vec<Finding>,
}

/// A field that the schema does not explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    Unknown(String),
    Duplicate(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(path) => write!(f, "unknown field \"{path}\""),
            Self::Duplicate(path) => write!(f, "duplicate field \"{path}\""),
        }
    }
}

/// Why a body cannot be read; the text follows `… cannot be handled as a KIND: `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(pub String);

impl Schemas {
    /// Reads a JSON body as an object of `schema`.
    ///
    /// # Errors
    /// Malformed JSON or a value of the wrong type.
    pub fn decode(&self, schema: &Struct, body: &[u8]) -> Result<Decoded, DecodeError> {
        let state = State { schemas: self, findings: RefCell::new(Vec::new()) };
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let shape = Shape::Struct(schema.name.clone());
        let seed = Seed { state: &state, shape: Some(&shape), path: String::new(), parent: "" };
        let text = |error: serde_json::Error| DecodeError(strip_position(&error.to_string()));
        let value = seed.deserialize(&mut deserializer).map_err(text)?;
        deserializer.end().map_err(text)?;
        let object = match value {
            Value::Object(object) => object,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Map::new()
            }
        };
        Ok(Decoded { object, findings: state.findings.into_inner() })
    }

    /// Prunes and normalises an object that was not read from a body (a patch result).
    ///
    /// # Errors
    /// A value of the wrong type.
    pub fn normalise(&self, schema: &Struct, object: &Object) -> Result<Decoded, DecodeError> {
        let body = serde_json::to_vec(object).map_err(|error| DecodeError(error.to_string()))?;
        self.decode(schema, &body)
    }
}

/// serde_json appends a position that upstream's texts do not have.
fn strip_position(text: &str) -> String {
    text.rfind(" at line ").and_then(|end| text.get(..end)).unwrap_or(text).to_owned()
}

struct State<'a> {
    schemas: &'a Schemas,
    findings: RefCell<Vec<Finding>>,
}

impl State<'_> {
    fn find(&self, finding: Finding) {
        let mut findings = self.findings.borrow_mut();
        if findings.len() < FINDINGS_MAX {
            findings.push(finding);
        }
    }
}

/// Reads one value of a known shape; `None` reads anything and drops it.
struct Seed<'a> {
    state: &'a State<'a>,
    shape: Option<&'a Shape>,
    /// Path without list indices is what type errors show; findings show it with them.
    path: String,
    /// Short name of the struct around, for type errors.
    parent: &'a str,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Seed<'a> {
    fn mismatch<E: serde::de::Error>(&self, found: &str) -> E {
        let shape = self.shape.unwrap_or(&Shape::Any);
        let field = format!("{}.{}", self.parent, without_indices(&self.path));
        let target =
            if self.path.is_empty() { "Go value".to_owned() } else { format!("Go struct field {field}") };
        let name = match shape {
            Shape::Struct(_) | Shape::List(_) | Shape::Map(_) | Shape::Text | Shape::Bytes => {
                go_text::type_name(shape)
            }
            Shape::Time | Shape::MicroTime | Shape::Int32 | Shape::Int64 | Shape::Number => {
                go_text::type_name(shape)
            }
            Shape::Boolean | Shape::IntOrString | Shape::Quantity | Shape::Any => go_text::type_name(shape),
        };
        E::custom(format!("json: cannot unmarshal {found} into {target} of type {name}"))
    }

    fn scalar<E: serde::de::Error>(self, value: Value) -> Result<Value, E> {
        let Some(shape) = self.shape else { return Ok(value) };
        match (shape, &value) {
            (Shape::Any, _)
            | (Shape::Text | Shape::IntOrString, Value::String(_))
            | (Shape::Boolean, Value::Bool(_))
            | (Shape::Number, Value::Number(_)) => Ok(value),
            (Shape::Int32 | Shape::Int64 | Shape::IntOrString, Value::Number(number)) => {
                if fits(shape, number) { Ok(value) } else { Err(self.mismatch(&format!("number {number}"))) }
            }
            (Shape::Quantity, Value::String(text)) => canonical_quantity(text),
            (Shape::Quantity, Value::Number(number)) => canonical_quantity(&number.to_string()),
            (Shape::Bytes, Value::String(text)) => check_base64(text).map(|()| value),
            (Shape::Time, Value::String(text)) => canonical_time(text, TimePrecision::Seconds),
            (Shape::MicroTime, Value::String(text)) => canonical_time(text, TimePrecision::Micros),
            _ => Err(self.mismatch(&go_text::json_type(&value))),
        }
    }

    fn child(&self, shape: Option<&'a Shape>, key: &str, parent: &'a str) -> Seed<'a> {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Seed { state: self.state, shape, path, parent }
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.scalar(Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.scalar(Value::from(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.scalar(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.scalar(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.scalar(Value::from(value))
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.scalar(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let shape = match self.shape {
            Some(Shape::List(items)) => Some(items.as_ref()),
            Some(Shape::Any) | None => self.shape,
            Some(_) => return Err(self.mismatch("array")),
        };
        let mut values = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, values.len());
            let seed = Seed { state: self.state, shape, path, parent: self.parent };
            match items.next_element_seed(seed)? {
                Some(value) => values.push(zero_for_null(value, shape)),
                None => return Ok(Value::Array(values)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        let mut seen = std::collections::BTreeSet::new();
        let fields = match self.shape {
            Some(Shape::Struct(name)) => self.state.schemas.get(name),
            Some(Shape::Map(_) | Shape::Any) | None => None,
            Some(_) => return Err(self.mismatch("object")),
        };
        while let Some(key) = entries.next_key::<String>()? {
            let child_path = if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) };
            let (shape, parent) = match (self.shape, fields) {
                (Some(Shape::Struct(_)), Some(schema)) => match schema.fields.get(&key) {
                    Some(field) => (Some(&field.shape), last_part(&schema.name)),
                    None => {
                        self.state.find(Finding::Unknown(child_path));
                        entries.next_value_seed(self.child(None, &key, self.parent))?;
                        continue;
                    }
                },
                (Some(Shape::Map(values)), _) => (Some(values.as_ref()), self.parent),
                (shape, _) => (shape, self.parent),
            };
            if !seen.insert(key.clone()) && self.shape.is_some() {
                self.state.find(Finding::Duplicate(child_path));
            }
            // Texts name the map's own field, not the key in it.
            let seed = match self.shape {
                Some(Shape::Map(_)) => Seed { state: self.state, shape, path: self.path.clone(), parent },
                _ => self.child(shape, &key, parent),
            };
            let value = entries.next_value_seed(seed)?;
            let keep_null = matches!(self.shape, Some(Shape::Map(_) | Shape::Any));
            let value = if keep_null { zero_for_null(value, shape) } else { value };
            if value.is_null() && !matches!(self.shape, Some(Shape::Any))
                || is_empty_collection(&value, shape)
            {
                object.remove(&key);
            } else {
                object.insert(key, value);
            }
        }
        Ok(Value::Object(object))
    }
}

/// Empty lists and maps read as absent; an empty struct (`emptyDir: {}`) is a value.
fn is_empty_collection(value: &Value, shape: Option<&Shape>) -> bool {
    match (value, shape) {
        (Value::Array(items), Some(Shape::List(_))) => items.is_empty(),
        (Value::Object(entries), Some(Shape::Map(_))) => entries.is_empty(),
        _ => false,
    }
}

/// A null inside a list or map stands for the type's zero value.
fn zero_for_null(value: Value, shape: Option<&Shape>) -> Value {
    if !value.is_null() {
        return value;
    }
    match shape {
        Some(Shape::Text | Shape::Bytes) => Value::from(""),
        Some(Shape::Int32 | Shape::Int64 | Shape::Number) => Value::from(0),
        Some(Shape::Boolean) => Value::from(false),
        Some(Shape::Quantity) => Value::from("0"),
        Some(Shape::Struct(_) | Shape::Map(_)) => Value::Object(Map::new()),
        Some(Shape::List(_) | Shape::Time | Shape::MicroTime | Shape::IntOrString | Shape::Any) | None => {
            value
        }
    }
}

fn fits(shape: &Shape, number: &Number) -> bool {
    match shape {
        Shape::Int32 | Shape::IntOrString => {
            number.as_i64().is_some_and(|value| i32::try_from(value).is_ok())
        }
        _ => number.as_i64().is_some(),
    }
}

fn canonical_quantity<E: serde::de::Error>(text: &str) -> Result<Value, E> {
    text.parse::<Quantity>().map(|quantity| Value::from(quantity.to_string())).map_err(E::custom)
}

fn check_base64<E: serde::de::Error>(text: &str) -> Result<(), E> {
    match STANDARD.decode(text) {
        Ok(_) => Ok(()),
        Err(
            base64::DecodeError::InvalidByte(offset, _) | base64::DecodeError::InvalidLastSymbol(offset, _),
        ) => Err(E::custom(format!("illegal base64 data at input byte {offset}"))),
        Err(base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding) => {
            Err(E::custom(format!("illegal base64 data at input byte {}", text.len() / 4 * 4)))
        }
    }
}

#[derive(Clone, Copy)]
enum TimePrecision {
    Seconds,
    Micros,
}

fn canonical_time<E: serde::de::Error>(text: &str, precision: TimePrecision) -> Result<Value, E> {
    let (layout, format) = match precision {
        TimePrecision::Seconds => ("2006-01-02T15:04:05Z07:00", "%Y-%m-%dT%H:%M:%SZ"),
        TimePrecision::Micros => ("2006-01-02T15:04:05.000000Z07:00", "%Y-%m-%dT%H:%M:%S.%6fZ"),
    };
    match text.parse::<Timestamp>() {
        Ok(time) => Ok(Value::from(time.strftime(format).to_string())),
        Err(_) => Err(E::custom(format!(
            "parsing time \"{text}\" as \"{layout}\": cannot parse \"{text}\" as \"2006\""
        ))),
    }
}

/// Removes `[n]` from a path.
fn without_indices(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    let mut inside = false;
    for character in path.chars() {
        match character {
            '[' => inside = true,
            ']' => inside = false,
            other if !inside => text.push(other),
            _ => {}
        }
    }
    text
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decode(kind: &str, body: &str) -> Result<Decoded, DecodeError> {
        let schemas = Schemas::builtin();
        schemas.decode(schemas.of_kind("", "v1", kind).unwrap(), body.as_bytes())
    }

    fn findings(kind: &str, body: &str) -> Vec<String> {
        decode(kind, body).unwrap().findings.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn findings_come_in_document_order() {
        let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","bogus":1,"labels":{"a":"1","a":"2"}},
            "foo":{"bar":1},"data":{"k":"1","k":"2"}}"#;
        assert_eq!(
            findings("ConfigMap", body),
            [
                "unknown field \"metadata.bogus\"",
                "duplicate field \"metadata.labels.a\"",
                "unknown field \"foo\"",
                "duplicate field \"data.k\""
            ]
        );
        let object = decode("ConfigMap", body).unwrap().object;
        assert_eq!(
            Value::Object(object),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "2"},
            "metadata": {"name": "a", "labels": {"a": "2"}}})
        );
    }

    #[test]
    fn findings_carry_list_positions() {
        let body = r#"{"spec":{"containers":[{"name":"a"},{"name":"b","imagee":"x"}]}}"#;
        assert_eq!(findings("Pod", body), ["unknown field \"spec.containers[1].imagee\""]);
    }

    #[test]
    fn type_errors_are_upstreams() {
        for (kind, body, expected) in [
            (
                "ConfigMap",
                r#"{"data":{"a":5}}"#,
                "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
            ),
            (
                "ConfigMap",
                r#"{"data":"x"}"#,
                "json: cannot unmarshal string into Go struct field ConfigMap.data of type map[string]string",
            ),
            (
                "ConfigMap",
                r#"{"metadata":{"name":5}}"#,
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.name of type string",
            ),
            (
                "ConfigMap",
                r#"{"metadata":[]}"#,
                "json: cannot unmarshal array into Go struct field ConfigMap.metadata of type v1.ObjectMeta",
            ),
            (
                "Pod",
                r#"{"spec":{"containers":[{"ports":[{"containerPort":"80"}]}]}}"#,
                "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
            ),
            (
                "Pod",
                r#"{"spec":{"containers":[{"ports":[{"containerPort":80.5}]}]}}"#,
                "json: cannot unmarshal number 80.5 into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
            ),
            (
                "Pod",
                r#"{"spec":{"containers":"x"}}"#,
                "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container",
            ),
            ("Secret", r#"{"data":{"a":"!!"}}"#, "illegal base64 data at input byte 0"),
        ] {
            assert_eq!(decode(kind, body).unwrap_err().to_string(), expected, "{body}");
        }
    }

    #[test]
    fn quantities_become_canonical_and_nulls_go() {
        let body = r#"{"spec":{"nodeName":null,"containers":[{"name":"a","resources":{"limits":{"cpu":0.5,"memory":"1024Mi"}},"args":[]}]}}"#;
        let object = decode("Pod", body).unwrap().object;
        assert_eq!(
            Value::Object(object),
            json!({"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}]}})
        );
    }
}
