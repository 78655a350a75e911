//! Pods: defaults, what each part of an update may change, and the fields that selectors use.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::super::pod_spec::{default_pod_resources, default_spec, qos_class, validate_spec};
use super::super::table::{AGE, NAME, column, wide};
use super::super::validation::metadata::{self, NameRule};
use super::super::value::{carry_over, ensure, integer, is_true, list, set_default, set_default_text, text};
use super::super::{Column, Context, FieldError, Object, Part, Strategy, generation};
use super::{pod_row, pod_update};

/// Stands in for the spec of a pod that has none.
static EMPTY: LazyLock<Object> = LazyLock::new(Object::new);

fn spec_of(pod: &Object) -> &Object {
    super::super::value::object(pod, &["spec"]).unwrap_or(&EMPTY)
}

/// The strategy of Pods.
pub(in crate::registry) struct Pod;

impl Strategy for Pod {
    fn default(&self, object: &mut Object) {
        let spec = ensure(object, "spec");
        default_spec(spec);
        default_pod_resources(spec);
        set_default(spec, "enableServiceLinks", true);
        ensure(object, "status");
    }

    fn prepare_create(&self, context: &Context<'_>, object: &mut Object) {
        generation::start(object);
        let class = qos_class(ensure(object, "spec"));
        let mut status = json!({"phase": "Pending", "qosClass": class});
        if !list(object, &["spec", "schedulingGates"]).is_empty()
            && let Some(status) = status.as_object_mut()
        {
            let condition = json!([{
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastTransitionTime": context.now,
            }]);
            status.insert("conditions".to_owned(), condition);
        }
        object.insert("status".to_owned(), status);
    }

    fn prepare_update(&self, _context: &Context<'_>, part: Part, object: &mut Object, old: &Object) {
        match part {
            Part::Main => carry_over(object, old, "status"),
            Part::Status => {
                carry_over(object, old, "spec");
                let references =
                    old.get("metadata").and_then(|metadata| metadata.get("ownerReferences")).cloned();
                let metadata = ensure(object, "metadata");
                match references {
                    Some(references) => metadata.insert("ownerReferences".to_owned(), references),
                    None => metadata.remove("ownerReferences"),
                };
                let class = text(old, &["status", "qosClass"]).to_owned();
                set_default_text(ensure(object, "status"), "qosClass", &class);
            }
        }
        generation::follow(object, old, &[&["spec"]]);
    }

    fn validate(&self, object: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate(object, NameRule::Subdomain);
        errors.extend(validate_spec("spec", spec_of(object)));
        errors
    }

    fn validate_update(&self, part: Part, object: &Object, old: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate_update(object, old);
        if part == Part::Main {
            errors.extend(validate_spec("spec", spec_of(object)));
            errors.extend(pod_update::validate(spec_of(object), spec_of(old)));
        }
        errors
    }

    fn selectable_fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        let plain = |path: &[&str]| text(object, path).to_owned();
        vec![
            ("spec.nodeName", plain(&["spec", "nodeName"])),
            ("spec.restartPolicy", plain(&["spec", "restartPolicy"])),
            ("spec.schedulerName", plain(&["spec", "schedulerName"])),
            ("spec.serviceAccountName", plain(&["spec", "serviceAccountName"])),
            ("spec.hostNetwork", is_true(object, &["spec", "hostNetwork"]).to_string()),
            ("status.phase", plain(&["status", "phase"])),
            ("status.podIP", pod_row::pod_ip(object).to_owned()),
            ("status.podIPs", pod_row::pod_ip(object).to_owned()),
            ("status.nominatedNodeName", plain(&["status", "nominatedNodeName"])),
        ]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Ready", "string", "Containers that are ready, of all that should be."),
            column("Status", "string", "What the pod is doing, in one word."),
            column("Restarts", "string", "Restarts of all containers, and when the last one was."),
            AGE,
            wide("IP", "Address of the pod."),
            wide("Node", "Node that the pod is bound to."),
            wide("Nominated Node", "Node that is being cleared for the pod."),
            wide("Readiness Gates", "Readiness gates that hold, of all."),
        ];
        COLUMNS
    }

    fn row(&self, object: &Object, now: &str) -> Vec<Value> {
        pod_row::row(object, now)
    }

    /// A pod that never reached a node, or has ended, has nothing to wait for.
    fn default_grace_seconds(&self, object: &Object) -> Option<i64> {
        let ended = matches!(text(object, &["status", "phase"]), "Succeeded" | "Failed");
        if ended || text(object, &["spec", "nodeName"]).is_empty() {
            return Some(0);
        }
        Some(integer(object, &["spec", "terminationGracePeriodSeconds"]).unwrap_or(30))
    }
}
