//! Namespaces: their finalizer list lives in the spec, and the name is also a label.

use serde_json::{Value, json};

use super::super::table::{AGE, NAME, age, column, name};
use super::super::validation::field::{all_invalid, invalid};
use super::super::validation::metadata::{self, NameRule, qualified_finalizer};
use super::super::value::{carry_over, ensure, list, text};
use super::super::{Column, Context, FieldError, Object, Part, Strategy};
use proto::api::names;

/// Label that carries the namespace's own name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
const FINALIZER: &str = "kubernetes";

/// The strategy of Namespaces.
pub(in crate::registry) struct Namespace;

impl Strategy for Namespace {
    fn default(&self, object: &mut Object) {
        let name = text(object, &["metadata", "name"]).to_owned();
        if !name.is_empty() {
            ensure(ensure(object, "metadata"), "labels").insert(NAME_LABEL.to_owned(), Value::from(name));
        }
        ensure(object, "spec");
        let status = ensure(object, "status");
        super::super::value::set_default_text(status, "phase", "Active");
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Object) {
        let spec = ensure(object, "spec");
        let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
        if let Some(list) = finalizers.as_array_mut()
            && !list.iter().any(|finalizer| finalizer == FINALIZER)
        {
            list.push(Value::from(FINALIZER));
        }
        object.insert("status".to_owned(), json!({"phase": "Active"}));
    }

    fn prepare_update(&self, _context: &Context<'_>, part: Part, object: &mut Object, old: &Object) {
        match part {
            Part::Main => {
                // Only the finalize subresource changes the spec's finalizers.
                let finalizers = list(old, &["spec", "finalizers"]).to_vec();
                ensure(object, "spec").insert("finalizers".to_owned(), Value::from(finalizers));
                carry_over(object, old, "status");
            }
            Part::Status => carry_over(object, old, "spec"),
        }
    }

    fn validate(&self, object: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate(object, NameRule::Label);
        errors.extend(validate_finalizers(object));
        errors
    }

    fn validate_update(&self, part: Part, object: &Object, old: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate_update(object, old);
        if part == Part::Status {
            errors.extend(validate_phase(object));
        }
        errors
    }

    fn selectable_fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        vec![("status.phase", text(object, &["status", "phase"]).to_owned())]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, column("Status", "string", "Phase of the namespace."), AGE];
        COLUMNS
    }

    fn row(&self, object: &Object, now: &str) -> Vec<Value> {
        vec![name(object), Value::from(text(object, &["status", "phase"])), age(object, now)]
    }
}

/// A namespace that is not being deleted is `Active`, and only one that is may be `Terminating`.
fn validate_phase(object: &Object) -> Option<FieldError> {
    let phase = text(object, &["status", "phase"]);
    let deleting = super::super::value::at(object, &["metadata", "deletionTimestamp"]).is_some();
    match (deleting, phase) {
        (true, "Terminating") | (false, "Active") => None,
        (true, _) => Some(invalid(
            "status.phase",
            &Value::from(phase),
            "may only be 'Terminating' if `deletionTimestamp` is not empty",
        )),
        (false, _) => Some(invalid(
            "status.phase",
            &Value::from(phase),
            "may only be 'Active' if `deletionTimestamp` is empty",
        )),
    }
}

fn validate_finalizers(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for finalizer in list(object, &["spec", "finalizers"]).iter().filter_map(Value::as_str) {
        errors.extend(all_invalid("spec.finalizers", finalizer, names::qualified_name(finalizer)));
        errors.extend(qualified_finalizer("spec.finalizers", finalizer));
    }
    errors
}
