//! Patches: each recorded patch on the object that the recorded answers before it left.

use std::collections::BTreeMap;

use apiserver::patch::{self, PatchType};
use apiserver::registry::{Context, Object, Part};
use serde_json::Value;

use super::{cases, report, strip};

#[test]
fn patches_leave_the_same_objects() {
    const KNOWN: &[&str] = &[
        // Refused for the request's parameters, which the API machinery checks.
        "merge patch unknown field ?",
        // A directive that is no list is refused here, whether or not there is a list to apply it to.
        "strategic: $deleteFromPrimitiveList bad",
    ];
    let mut state: BTreeMap<String, Object> = BTreeMap::new();
    let (mut replayed, mut differences) = (0, Vec::new());
    for case in cases("patches.json") {
        let Some((kind, namespace, tail)) = case.target() else { continue };
        let (name, part) = match tail.as_slice() {
            [] => (case.answer["metadata"]["name"].as_str().unwrap_or_default().to_owned(), Part::Main),
            [name] => (name.clone(), Part::Main),
            [name, subresource] if subresource == "status" => (name.clone(), Part::Status),
            _ => continue,
        };
        let key = format!("{}/{namespace}/{name}", kind.qualified_resource());
        let succeeded = matches!(case.status, 200 | 201);
        let before = state.get(&key).cloned();
        if succeeded && case.answer["kind"] == kind.kind {
            state.insert(key, case.answer.as_object().unwrap().clone());
        }
        let (Some(patch_type), Some(before)) = (PatchType::from_media_type(&case.media_type), before) else {
            continue;
        };
        if case.method != "PATCH" || !matches!(case.status, 200 | 400 | 422) {
            continue;
        }
        let body = match &case.body {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if body.contains("operations)") {
            continue;
        }
        replayed += 1;
        let ours = patch::apply(kind, patch_type, &before, body.as_bytes())
            .map_err(|error| error.to_string())
            .and_then(|patched| kind.normalise(&patched).map_err(|error| error.to_string()))
            .map(|decoded| {
                let mut object = decoded.object;
                let context = Context { now: "2026-01-01T00:00:00Z", namespace: &namespace, user: "admin" };
                kind.strategy.default(&mut object);
                kind.strategy.prepare_update(&context, part, &mut object, &before);
                object
            });
        let outcome = match (ours, succeeded) {
            (Ok(object), true) => {
                let (ours, theirs) = (strip(Value::Object(object)), strip(case.answer.clone()));
                (ours != theirs).then(|| format!("ours   {ours}\ntheirs {theirs}"))
            }
            (Ok(object), false) => {
                let errors = kind.strategy.validate_update(part, &object, &before);
                let renamed = object.get("metadata").and_then(|metadata| metadata.get("name"))
                    != before["metadata"].get("name");
                (errors.is_empty() && !renamed)
                    .then(|| format!("ours is accepted\ntheirs {}", case.answer["message"]))
            }
            (Err(error), true) => Some(format!("ours   {error}\ntheirs accepted")),
            (Err(_), false) => None,
        };
        if let Some(text) = outcome {
            differences.push((case.name, format!("{body}\n{text}")));
        }
    }
    report(replayed, differences, KNOWN);
}
