//! Replays what the original answered against our registry, where the recordings exist (`../shared/data` beside the
//! repository); without them these tests say so and pass.
//!
//! A case that we answer differently on purpose, or not yet, is named in the list of its test; everything else must agree to
//! the letter.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test crate: what is missing in a recording must fail loudly"
)]

mod creation;
mod documents;
mod patches;
mod rows;
mod updates;

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

use apiserver::registry::{Context, FieldError, Kind, Object, catalog};
use serde_json::Value;

/// One recorded request and its answer.
struct Case {
    name: String,
    method: String,
    path: String,
    media_type: String,
    body: Value,
    status: u64,
    answer: Value,
}

/// Reads the cases of a file, or none when there are no recordings here.
fn cases(file: &str) -> Vec<Case> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/wire").join(file);
    let Ok(mut opened) = File::open(&path) else {
        // Past the capture of output: the test runner counts these lines.
        std::io::stderr()
            .write_all(format!("skipped: no recordings at {}\n", path.display()).as_bytes())
            .unwrap();
        return Vec::new();
    };
    let mut bytes = Vec::new();
    if file.ends_with(".gz") {
        flate2::read::GzDecoder::new(opened).read_to_end(&mut bytes).unwrap();
    } else {
        opened.read_to_end(&mut bytes).unwrap();
    }
    let cases: Vec<Value> = serde_json::from_slice(&bytes).unwrap();
    cases.into_iter().map(Case::of).collect()
}

impl Case {
    fn of(case: Value) -> Self {
        let (request, response) = (&case["request"], &case["response"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let headers = request["headers"].as_object();
        let media_type = headers.and_then(|headers| {
            headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case("content-type"))
                .map(|(_, value)| text(value))
        });
        Self {
            name: text(&case["name"]),
            method: text(&request["method"]),
            path: text(&request["path"]),
            media_type: media_type.unwrap_or_default(),
            body: request["body"].clone(),
            status: response["status"].as_u64().unwrap_or_default(),
            answer: response["body"].clone(),
        }
    }

    /// Returns the kind that the path addresses, the namespace, and what stands behind the resource.
    fn target(&self) -> Option<(&'static Kind, String, Vec<String>)> {
        let path = self.path.split('?').next().unwrap_or_default();
        let mut parts = path.trim_matches('/').split('/').map(str::to_owned);
        let group = match parts.next()?.as_str() {
            "api" => String::new(),
            "apis" => parts.next()?,
            _ => return None,
        };
        let version = parts.next()?;
        let rest: Vec<String> = parts.collect();
        let (namespace, rest) = match rest.as_slice() {
            [first, namespace, resource, tail @ ..]
                if first == "namespaces" && resource != "status" && resource != "finalize" =>
            {
                (namespace.clone(), [std::slice::from_ref(resource), tail].concat())
            }
            _ => (String::new(), rest),
        };
        let (resource, tail) = rest.split_first()?;
        Some((catalog::find(&group, &version, resource)?, namespace, tail.to_vec()))
    }
}

/// Does what the server does with the body of a create before it validates.
fn prepare(kind: &Kind, namespace: &str, body: &Value) -> Result<Object, String> {
    let decoded = kind.decode(body.to_string().as_bytes()).map_err(|error| error.to_string())?;
    let mut object = decoded.object;
    if !namespace.is_empty()
        && let Some(metadata) =
            object.entry("metadata").or_insert_with(|| serde_json::json!({})).as_object_mut()
    {
        metadata.entry("namespace").or_insert_with(|| Value::from(namespace));
    }
    let context = Context { now: "2026-01-01T00:00:00Z", namespace, user: "admin" };
    kind.strategy.default(&mut object);
    kind.strategy.prepare_create(&context, &mut object);
    Ok(object)
}

/// Joins findings as the message of a `Status` does.
fn message(kind: &Kind, name: &str, errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for text in errors.iter().map(ToString::to_string) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    let joined = if texts.len() == 1 { texts.concat() } else { format!("[{}]", texts.join(", ")) };
    format!("{} \"{name}\" is invalid: {joined}", kind.qualified_kind())
}

/// Removes what no two servers share, and nulls.
fn strip(mut object: Value) -> Value {
    fn nulls(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|_, value| !value.is_null());
                fields.values_mut().for_each(nulls);
            }
            Value::Array(items) => items.iter_mut().for_each(nulls),
            _ => {}
        }
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
            metadata.remove(field);
        }
    }
    nulls(&mut object);
    object
}

/// Fails with everything that differs, after the list of known differences was taken out.
fn report(replayed: usize, differences: Vec<(String, String)>, known: &[&str]) {
    let surprises: Vec<&(String, String)> =
        differences.iter().filter(|(name, _)| !known.iter().any(|known| name.starts_with(known))).collect();
    println!("{replayed} replayed, {} known differences", differences.len() - surprises.len());
    for known in known {
        if replayed > 0 && !differences.iter().any(|(name, _)| name.starts_with(known)) {
            println!("no longer different: {known}");
        }
    }
    for (name, text) in &surprises {
        println!("--- {name}\n{text}");
    }
    assert!(surprises.is_empty(), "{} of {replayed} differ", surprises.len());
}
