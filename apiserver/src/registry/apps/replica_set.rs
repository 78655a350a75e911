//! ReplicaSets: a number of pods of one template.

use serde_json::{Value, json};

use super::super::pod_spec::default_template;
use super::super::table::{AGE, NAME, age, column, name, wide};
use super::super::validation::field::unchanged;
use super::super::validation::metadata::{self, NameRule};
use super::super::value::{at, carry_over, ensure, integer, set_default};
use super::super::{Column, Context, FieldError, Object, Part, Strategy, generation};
use super::deployment::keep_labels;
use super::template::{validate_not_negative, validate_selector_and_template, wide_cells};

/// The strategy of ReplicaSets.
pub(in crate::registry) struct ReplicaSet;

impl Strategy for ReplicaSet {
    fn default(&self, object: &mut Object) {
        let spec = ensure(object, "spec");
        set_default(spec, "replicas", 1);
        default_template(ensure(spec, "template"));
        set_default(ensure(object, "status"), "replicas", 0);
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Object) {
        generation::start(object);
        object.insert("status".to_owned(), json!({"replicas": 0}));
    }

    fn prepare_update(&self, _context: &Context<'_>, part: Part, object: &mut Object, old: &Object) {
        match part {
            Part::Main => carry_over(object, old, "status"),
            Part::Status => {
                carry_over(object, old, "spec");
                keep_labels(object, old);
            }
        }
        generation::follow(object, old, &[&["spec"]]);
    }

    fn validate(&self, object: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate(object, NameRule::Subdomain);
        errors.extend(validate_spec(object));
        errors
    }

    fn validate_update(&self, part: Part, object: &Object, old: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate_update(object, old);
        if part == Part::Main {
            errors.extend(validate_spec(object));
            let path = ["spec", "selector"];
            errors.extend(unchanged("spec.selector", at(object, &path), at(old, &path)));
        }
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Desired", "integer", "Pods that are wanted."),
            column("Current", "integer", "Pods that exist."),
            column("Ready", "integer", "Pods that are ready."),
            AGE,
            wide("Containers", "Names of the template's containers."),
            wide("Images", "Images of the template's containers."),
            wide("Selector", "Labels of the pods."),
        ];
        COLUMNS
    }

    fn row(&self, object: &Object, now: &str) -> Vec<Value> {
        let number = |path: &[&str]| Value::from(integer(object, path).unwrap_or_default());
        let mut cells = vec![
            name(object),
            number(&["spec", "replicas"]),
            number(&["status", "replicas"]),
            number(&["status", "readyReplicas"]),
            age(object, now),
        ];
        cells.extend(wide_cells(object));
        cells
    }
}

fn validate_spec(object: &Object) -> Vec<FieldError> {
    let mut errors = validate_not_negative(object, &["replicas", "minReadySeconds"]);
    errors.extend(validate_selector_and_template(object));
    errors
}
