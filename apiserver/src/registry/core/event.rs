//! Events of the core group: what happened to an object.

use serde_json::{Value, json};

use super::super::events::{EventView, row as event_row};
use super::super::table::{column, wide};
use super::super::validation::field::invalid;
use super::super::validation::metadata::{self, NameRule};
use super::super::value::{ensure, integer, set_default, text};
use super::super::{Column, Context, FieldError, Object, Part, Strategy};

/// Columns of both event kinds.
pub(in crate::registry) const COLUMNS: &[Column] = &[
    column("Last Seen", "string", "When it happened last."),
    column("Type", "string", "Normal or Warning."),
    column("Reason", "string", "Why, in one word."),
    column("Object", "string", "Object that it is about."),
    wide("Subobject", "Part of the object."),
    wide("Source", "Who reported it."),
    column("Message", "string", "What happened."),
    wide("First Seen", "When it happened first."),
    wide("Count", "How often it happened."),
    Column { name: "Name", kind: "string", format: "name", description: "Name of the event.", priority: 1 },
];

/// The strategy of core Events.
pub(in crate::registry) struct Event;

impl Strategy for Event {
    fn default(&self, object: &mut Object) {
        set_default(object, "source", json!({}));
        set_default(object, "reportingComponent", "");
        set_default(object, "reportingInstance", "");
        ensure(object, "involvedObject");
    }

    fn prepare_create(&self, _context: &Context<'_>, _object: &mut Object) {}

    fn prepare_update(&self, _context: &Context<'_>, _part: Part, _object: &mut Object, _old: &Object) {}

    fn validate(&self, object: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate(object, NameRule::Subdomain);
        errors.extend(validate_namespace(object));
        errors
    }

    fn validate_update(&self, _part: Part, object: &Object, old: &Object) -> Vec<FieldError> {
        metadata::validate_update(object, old)
    }

    fn selectable_fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        let involved = |field: &str| text(object, &["involvedObject", field]).to_owned();
        let component = text(object, &["source", "component"]);
        let source = if component.is_empty() { text(object, &["reportingComponent"]) } else { component };
        vec![
            ("involvedObject.kind", involved("kind")),
            ("involvedObject.namespace", involved("namespace")),
            ("involvedObject.name", involved("name")),
            ("involvedObject.uid", involved("uid")),
            ("involvedObject.apiVersion", involved("apiVersion")),
            ("involvedObject.resourceVersion", involved("resourceVersion")),
            ("involvedObject.fieldPath", involved("fieldPath")),
            ("reason", text(object, &["reason"]).to_owned()),
            ("reportingComponent", text(object, &["reportingComponent"]).to_owned()),
            ("source", source.to_owned()),
            ("type", text(object, &["type"]).to_owned()),
        ]
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Object, now: &str) -> Vec<Value> {
        let view = EventView {
            object: "involvedObject",
            source: "source",
            reporter: "reportingComponent",
            message: "message",
            first: "firstTimestamp",
            last: "lastTimestamp",
            count: integer(object, &["count"]),
        };
        event_row(object, &view, now)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }
}

/// An event lives beside what it is about; events about cluster-scoped objects live in `default`.
fn validate_namespace(object: &Object) -> Option<FieldError> {
    let own = text(object, &["metadata", "namespace"]);
    let involved = text(object, &["involvedObject", "namespace"]);
    if involved.is_empty() {
        let known = matches!(own, "" | "default" | "kube-system");
        return (!known).then(|| {
            invalid("involvedObject.namespace", &Value::from(involved), "does not match event.namespace")
        });
    }
    (own != involved).then(|| {
        invalid("involvedObject.namespace", &Value::from(involved), "does not match event.namespace")
    })
}
