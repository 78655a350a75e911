//! Events of `events.k8s.io`: the newer form, stored on its own.

use serde_json::{Value, json};

use super::super::core::event::COLUMNS;
use super::super::validation::field::required;
use super::super::validation::metadata::{self, NameRule};
use super::super::value::{ensure, integer, set_default, text};
use super::super::{Column, Context, FieldError, Object, Part, Strategy};
use super::{EventView, row as event_row};

/// The strategy of `events.k8s.io` Events.
pub(in crate::registry) struct Event;

impl Strategy for Event {
    fn default(&self, object: &mut Object) {
        set_default(object, "deprecatedSource", json!({}));
        ensure(object, "regarding");
    }

    fn prepare_create(&self, _context: &Context<'_>, _object: &mut Object) {}

    fn prepare_update(&self, _context: &Context<'_>, _part: Part, _object: &mut Object, _old: &Object) {}

    fn validate(&self, object: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate(object, NameRule::Subdomain);
        for field in ["reportingController", "reportingInstance", "action", "reason"] {
            if text(object, &[field]).is_empty() {
                errors.push(required(field, ""));
            }
        }
        errors
    }

    fn validate_update(&self, _part: Part, object: &Object, old: &Object) -> Vec<FieldError> {
        metadata::validate_update(object, old)
    }

    fn selectable_fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        let regarding = |field: &str| text(object, &["regarding", field]).to_owned();
        vec![
            ("regarding.kind", regarding("kind")),
            ("regarding.namespace", regarding("namespace")),
            ("regarding.name", regarding("name")),
            ("regarding.uid", regarding("uid")),
            ("reason", text(object, &["reason"]).to_owned()),
            ("reportingController", text(object, &["reportingController"]).to_owned()),
            ("type", text(object, &["type"]).to_owned()),
        ]
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Object, now: &str) -> Vec<Value> {
        let view = EventView {
            object: "regarding",
            source: "deprecatedSource",
            reporter: "reportingController",
            message: "note",
            first: "deprecatedFirstTimestamp",
            last: "deprecatedLastTimestamp",
            count: integer(object, &["deprecatedCount"]),
        };
        event_row(object, &view, now)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }
}
