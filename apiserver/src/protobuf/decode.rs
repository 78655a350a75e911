//! Messages to JSON. Absent stays absent; a field that Go always writes is dropped when it is zero.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::ProtobufError;
use super::table::{FieldFacts, Shape, fields_of};
use super::wire::{Field, fields, varint};

/// No API object nests deeper than about 20 messages.
const DEPTH_MAX: u32 = 32;

/// Numbers and flags that are plain values in Go: they are written even when unset, so zero means absent. Every other
/// number or flag is a pointer there, and its zero was meant.
const PLAIN_VALUES: [&str; 27] = [
    "generation",
    "observedGeneration",
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "hostPort",
    "nodePort",
    "readOnly",
    "stdin",
    "stdinOnce",
    "tty",
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
    "minReadySeconds",
    "paused",
    "publishNotReadyAddresses",
    "unschedulable",
    "count",
    "currentNumberScheduled",
    "denied",
    "authenticated",
    "backoffLimit",
    "retryAfterSeconds",
    "port",
];

/// Reads a message as JSON.
pub(super) fn message(name: &str, bytes: &[u8]) -> Result<Value, ProtobufError> {
    nested(name, bytes, 0)
}

fn nested(name: &str, bytes: &[u8], depth: u32) -> Result<Value, ProtobufError> {
    if depth > DEPTH_MAX {
        return Err(ProtobufError::TooDeep);
    }
    if let Some(special) = special(name, bytes)? {
        return Ok(special);
    }
    let mut object = Map::new();
    let Some(known) = fields_of(name) else { return Ok(Value::Object(object)) };
    for field in fields(bytes) {
        let (number, field) = field?;
        if let Some(facts) = known.get(&number) {
            add(&mut object, facts, field, depth)?;
        }
    }
    Ok(Value::Object(object))
}

fn add(
    object: &mut Map<String, Value>,
    facts: &FieldFacts,
    field: Field<'_>,
    depth: u32,
) -> Result<(), ProtobufError> {
    let name = facts.json_name;
    match (&facts.shape, field) {
        (Shape::Map(shape), Field::Bytes(entry)) => {
            let (key, value) = map_entry(shape, entry, depth)?;
            let map = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if let Some(map) = map.as_object_mut() {
                map.insert(key, value);
            }
        }
        (Shape::Integer | Shape::Boolean, Field::Bytes(mut packed)) if facts.repeated => {
            while !packed.is_empty() {
                let number = varint(&mut packed).ok_or(ProtobufError::Malformed)?;
                push(object, name, scalar(&facts.shape, Field::Varint(number), depth)?);
            }
        }
        (shape, field) => {
            let value = scalar(shape, field, depth)?;
            if facts.repeated {
                push(object, name, value);
            } else if name == "(inline)" {
                object.extend(value.as_object().cloned().unwrap_or_default());
            } else if name != "-" && !is_unset(name, &value) {
                object.insert(name.to_owned(), value);
            }
        }
    }
    Ok(())
}

fn push(object: &mut Map<String, Value>, name: &str, value: Value) {
    let list = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
    if let Some(list) = list.as_array_mut() {
        list.push(value);
    }
}

fn is_unset(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Object(members) => members.is_empty() && matches!(name, "status" | "strategy" | "resources"),
        Value::Bool(false) => PLAIN_VALUES.contains(&name),
        Value::Number(number) => number.as_i64() == Some(0) && PLAIN_VALUES.contains(&name),
        Value::Bool(true) | Value::Array(_) => false,
    }
}

fn map_entry(shape: &Shape, entry: &[u8], depth: u32) -> Result<(String, Value), ProtobufError> {
    let mut key = String::new();
    let mut value = match shape {
        Shape::Message(name) => nested(name, &[], depth + 1)?,
        _ => Value::String(String::new()),
    };
    for field in fields(entry) {
        match field? {
            (1, Field::Bytes(text)) => key = String::from_utf8_lossy(text).into_owned(),
            (2, field) => value = scalar(shape, field, depth)?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn scalar(shape: &Shape, field: Field<'_>, depth: u32) -> Result<Value, ProtobufError> {
    match (shape, field) {
        (Shape::Text, Field::Bytes(bytes)) => {
            let text = std::str::from_utf8(bytes).map_err(|_| ProtobufError::Malformed)?;
            Ok(text.into())
        }
        (Shape::Bytes, Field::Bytes(bytes)) => Ok(STANDARD.encode(bytes).into()),
        (Shape::Boolean, Field::Varint(value)) => Ok((value != 0).into()),
        (Shape::Integer, Field::Varint(value)) => Ok(signed(value).into()),
        (Shape::Double, Field::Fixed64(bits)) => Ok(f64::from_bits(bits).into()),
        (Shape::Message(name), Field::Bytes(bytes)) => nested(name, bytes, depth + 1),
        _ => Err(ProtobufError::Malformed),
    }
}

/// Negative numbers travel as their two's complement.
fn signed(value: u64) -> i64 {
    i64::from_le_bytes(value.to_le_bytes())
}

/// Reads messages that are no objects in JSON.
fn special(name: &str, bytes: &[u8]) -> Result<Option<Value>, ProtobufError> {
    let short = name.rsplit('.').next().unwrap_or_default();
    let value = match short {
        "Time" | "MicroTime" if name.contains(".meta.v1.") => time(short, bytes)?,
        "Quantity" => text_of(bytes, 1)?.into(),
        "IntOrString" => match number_of(bytes, 1)? {
            0 => number_of(bytes, 2)?.into(),
            _ => text_of(bytes, 3)?.into(),
        },
        "RawExtension" | "FieldsV1" => serde_json::from_str(&text_of(bytes, 1)?).unwrap_or_default(),
        "ExtraValue" | "Verbs" => {
            let mut items = Vec::new();
            for field in fields(bytes) {
                if let (1, Field::Bytes(text)) = field? {
                    items.push(Value::from(String::from_utf8_lossy(text).into_owned()));
                }
            }
            items.into()
        }
        _ => return Ok(None),
    };
    Ok(Some(value))
}

fn time(short: &str, bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (seconds, nanos) = (number_of(bytes, 1)?, number_of(bytes, 2)?);
    // Go writes an unset time as an empty message.
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let nanos = i32::try_from(nanos).map_err(|_| ProtobufError::Malformed)?;
    let time = Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::Malformed)?;
    let format = if short == "Time" { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%.6fZ" };
    Ok(time.strftime(format).to_string().into())
}

fn number_of(bytes: &[u8], wanted: u32) -> Result<i64, ProtobufError> {
    for field in fields(bytes) {
        if let (number, Field::Varint(value)) = field?
            && number == wanted
        {
            return Ok(signed(value));
        }
    }
    Ok(0)
}

fn text_of(bytes: &[u8], wanted: u32) -> Result<String, ProtobufError> {
    for field in fields(bytes) {
        if let (number, Field::Bytes(text)) = field?
            && number == wanted
        {
            return String::from_utf8(text.to_vec()).map_err(|_| ProtobufError::Malformed);
        }
    }
    Ok(String::new())
}
