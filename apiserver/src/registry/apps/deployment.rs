//! Deployments: rolling changes of a pod template.

use proto::api::int_or_percent::{IntOrPercent, Rounding};
use serde_json::{Value, json};

use super::super::pod_spec::default_template;
use super::super::table::{AGE, NAME, age, column, name, wide};
use super::super::validation::field::{forbidden, invalid, unchanged};
use super::super::validation::metadata::{self, NameRule};
use super::super::value::{at, carry_over, ensure, integer, object, set_default, set_default_text, text};
use super::super::{Column, Context, FieldError, Object, Part, Strategy, generation};
use super::template::{validate_not_negative, validate_selector_and_template, wide_cells};

/// The strategy of Deployments.
pub(in crate::registry) struct Deployment;

impl Strategy for Deployment {
    fn default(&self, object: &mut Object) {
        let spec = ensure(object, "spec");
        set_default(spec, "replicas", 1);
        set_default(spec, "revisionHistoryLimit", 10);
        set_default(spec, "progressDeadlineSeconds", 600);
        let strategy = ensure(spec, "strategy");
        set_default_text(strategy, "type", "RollingUpdate");
        if text(strategy, &["type"]) == "RollingUpdate" {
            let rolling = ensure(strategy, "rollingUpdate");
            set_default(rolling, "maxUnavailable", "25%");
            set_default(rolling, "maxSurge", "25%");
        }
        default_template(ensure(spec, "template"));
        ensure(object, "status");
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Object) {
        generation::start(object);
        object.insert("status".to_owned(), json!({}));
    }

    fn prepare_update(&self, _context: &Context<'_>, part: Part, object: &mut Object, old: &Object) {
        match part {
            Part::Main => carry_over(object, old, "status"),
            Part::Status => {
                carry_over(object, old, "spec");
                keep_labels(object, old);
            }
        }
        generation::follow(object, old, &[&["spec"], &["metadata", "annotations"]]);
    }

    fn validate(&self, object: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate(object, NameRule::Subdomain);
        errors.extend(validate_spec(object));
        errors
    }

    fn validate_update(&self, part: Part, object: &Object, old: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate_update(object, old);
        match part {
            Part::Main => {
                errors.extend(validate_spec(object));
                let path = ["spec", "selector"];
                errors.extend(unchanged("spec.selector", at(object, &path), at(old, &path)));
            }
            Part::Status => errors.extend(validate_status(object)),
        }
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Ready", "string", "Ready pods, of all that are wanted."),
            column("Up-to-date", "string", "Pods of the newest template."),
            column("Available", "string", "Pods that have been ready long enough."),
            AGE,
            wide("Containers", "Names of the template's containers."),
            wide("Images", "Images of the template's containers."),
            wide("Selector", "Labels of the pods."),
        ];
        COLUMNS
    }

    fn row(&self, object: &Object, now: &str) -> Vec<Value> {
        let status = |field: &str| integer(object, &["status", field]).unwrap_or_default();
        let wanted = integer(object, &["spec", "replicas"]).unwrap_or_default();
        let mut cells = vec![
            name(object),
            Value::from(format!("{}/{wanted}", status("readyReplicas"))),
            Value::from(status("updatedReplicas")),
            Value::from(status("availableReplicas")),
            age(object, now),
        ];
        cells.extend(wide_cells(object));
        cells
    }
}

/// Labels change through the main resource only.
pub(super) fn keep_labels(object: &mut Object, old: &Object) {
    let labels = at(old, &["metadata", "labels"]).cloned();
    let metadata = ensure(object, "metadata");
    match labels {
        Some(labels) => metadata.insert("labels".to_owned(), labels),
        None => metadata.remove("labels"),
    };
}

fn validate_spec(object: &Object) -> Vec<FieldError> {
    let mut errors = validate_not_negative(object, &["replicas"]);
    errors.extend(validate_selector_and_template(object));
    errors.extend(validate_strategy(object));
    errors.extend(validate_not_negative(
        object,
        &["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"],
    ));
    let deadline = integer(object, &["spec", "progressDeadlineSeconds"]);
    let ready = integer(object, &["spec", "minReadySeconds"]).unwrap_or_default();
    if let Some(deadline) = deadline.filter(|deadline| *deadline <= ready) {
        let detail = "must be greater than minReadySeconds";
        errors.push(invalid("spec.progressDeadlineSeconds", &Value::from(deadline), detail));
    }
    errors
}

fn validate_strategy(object: &Object) -> Vec<FieldError> {
    let rolling = self::object(object, &["spec", "strategy", "rollingUpdate"]);
    match (text(object, &["spec", "strategy", "type"]), rolling) {
        ("RollingUpdate", Some(rolling)) => validate_rolling(rolling),
        ("RollingUpdate", None) | ("Recreate", None) => Vec::new(),
        ("Recreate", Some(_)) => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            vec![forbidden("spec.strategy.rollingUpdate", detail)]
        }
        (other, _) => vec![FieldError {
            field: "spec.strategy".to_owned(),
            reason: super::super::FieldErrorReason::NotSupported,
            message: format!(
                "Unsupported value: {{\"Type\":\"{other}\",\"RollingUpdate\":null}}: supported values: \"Recreate\", \
                 \"RollingUpdate\""
            ),
        }],
    }
}

fn validate_rolling(rolling: &Object) -> Vec<FieldError> {
    const PATH: &str = "spec.strategy.rollingUpdate";
    let mut errors = Vec::new();
    for field in ["maxUnavailable", "maxSurge"] {
        let Some(value) = at(rolling, &[field]) else { continue };
        let path = format!("{PATH}.{field}");
        match IntOrPercent::from_value(value) {
            Some(IntOrPercent::Count(count)) if count < 0 => {
                errors.push(invalid(path, value, "must be greater than or equal to 0"));
            }
            Some(IntOrPercent::Percent(percent)) if percent > 100 && field == "maxUnavailable" => {
                errors.push(invalid(path, value, "must not be greater than 100%"));
            }
            Some(IntOrPercent::Count(_) | IntOrPercent::Percent(_)) => {}
            None => errors.push(invalid(
                path,
                value,
                "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex \
                 used for validation is '[0-9]+%')",
            )),
        }
    }
    let zero = |field: &str| {
        let value = at(rolling, &[field]).and_then(IntOrPercent::from_value);
        value.is_none_or(|value| value.resolve(100, Rounding::Down) == 0)
    };
    if errors.is_empty() && zero("maxUnavailable") && zero("maxSurge") {
        let value = at(rolling, &["maxUnavailable"]).unwrap_or(&Value::Null);
        errors.push(invalid(format!("{PATH}.maxUnavailable"), value, "may not be 0 when `maxSurge` is 0"));
    }
    errors
}

/// Counts of a status are not negative, and parts are not larger than the whole.
fn validate_status(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let status = |field: &str| integer(object, &["status", field]).unwrap_or_default();
    let fields = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
    ];
    for field in fields {
        if status(field) < 0 {
            let detail = "must be greater than or equal to 0";
            errors.push(invalid(format!("status.{field}"), &Value::from(status(field)), detail));
        }
    }
    for field in ["updatedReplicas", "readyReplicas", "availableReplicas"] {
        if status(field) > status("replicas") {
            let detail = "cannot be greater than status.replicas";
            errors.push(invalid(format!("status.{field}"), &Value::from(status(field)), detail));
        }
    }
    if status("availableReplicas") > status("readyReplicas") {
        let detail = "cannot be greater than readyReplicas";
        errors.push(invalid("status.availableReplicas", &Value::from(status("availableReplicas")), detail));
    }
    errors
}
