//! Secrets: bytes under keys, with a type that may demand certain keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::api::names;
use serde_json::Value;

use super::super::table::{AGE, NAME, age, column, name};
use super::super::validation::field::{all_invalid, invalid, required, too_long, unchanged};
use super::super::validation::metadata::{self, NameRule};
use super::super::value::{at, ensure, entries, set_default_text, text};
use super::super::{Column, Context, FieldError, Object, Part, Strategy};
use super::config_map::{DATA_BYTES_MAX, decoded_length, validate_immutable};

const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

/// The strategy of Secrets.
pub(in crate::registry) struct Secret;

impl Strategy for Secret {
    fn default(&self, object: &mut Object) {
        set_default_text(object, "type", "Opaque");
        if let Some(Value::Object(plain)) = object.remove("stringData") {
            let data = ensure(object, "data");
            for (key, value) in plain {
                let encoded = STANDARD.encode(value.as_str().unwrap_or_default());
                data.insert(key, Value::from(encoded));
            }
            if data.is_empty() {
                object.remove("data");
            }
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, _object: &mut Object) {}

    fn prepare_update(&self, _context: &Context<'_>, _part: Part, object: &mut Object, old: &Object) {
        // A writer that leaves the type out means the one that is there.
        let kept = text(old, &["type"]).to_owned();
        set_default_text(object, "type", &kept);
    }

    fn validate(&self, object: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate(object, NameRule::Subdomain);
        errors.extend(validate_data(object));
        errors
    }

    fn validate_update(&self, _part: Part, object: &Object, old: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate_update(object, old);
        errors.extend(unchanged("type", object.get("type"), old.get("type")));
        errors.extend(validate_immutable(object, old, &["data"]));
        errors.extend(validate_data(object));
        errors
    }

    fn selectable_fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        vec![("type", text(object, &["type"]).to_owned())]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Type", "string", "What the data is for."),
            column("Data", "string", "Number of keys."),
            AGE,
        ];
        COLUMNS
    }

    fn row(&self, object: &Object, now: &str) -> Vec<Value> {
        let count = Value::from(entries(object, &["data"]).count());
        vec![name(object), Value::from(text(object, &["type"])), count, age(object, now)]
    }
}

fn validate_data(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut bytes = 0;
    for (key, value) in entries(object, &["data"]) {
        errors.extend(all_invalid(&format!("data[{key}]"), key, names::config_key(key)));
        bytes += decoded_length(value);
    }
    if bytes > DATA_BYTES_MAX {
        errors.push(too_long("data", DATA_BYTES_MAX));
    }
    let has = |key: &str| at(object, &["data", key]).is_some();
    let need = |keys: &[&str]| -> Vec<FieldError> {
        keys.iter().filter(|key| !has(key)).map(|key| required(format!("data[{key}]"), "")).collect()
    };
    match text(object, &["type"]) {
        "kubernetes.io/tls" => errors.extend(need(&["tls.crt", "tls.key"])),
        "kubernetes.io/ssh-auth" => errors.extend(need(&["ssh-privatekey"])),
        "kubernetes.io/dockercfg" => errors.extend(json_key(object, ".dockercfg")),
        "kubernetes.io/dockerconfigjson" => errors.extend(json_key(object, ".dockerconfigjson")),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            errors.extend(need(&["username", "password"]));
        }
        "kubernetes.io/service-account-token"
            if text(object, &["metadata", "annotations", SERVICE_ACCOUNT_NAME]).is_empty() =>
        {
            errors.push(required(format!("metadata.annotations[{SERVICE_ACCOUNT_NAME}]"), ""));
        }
        _ => {}
    }
    errors
}

/// The key must be there and hold JSON; its content stays out of the message.
fn json_key(object: &Object, key: &str) -> Option<FieldError> {
    let field = format!("data[{key}]");
    let Some(value) = at(object, &["data", key]) else { return Some(required(field, "")) };
    let bytes = STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
    let error = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).err()?;
    Some(invalid(field, &Value::from("<secret contents redacted>"), &error.to_string()))
}
