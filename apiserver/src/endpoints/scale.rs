//! The `scale` subresource: `autoscaling/v1` Scale as a view of `spec.replicas`.

use proto::api::labels::Selector;
use serde_json::{Map, Value, json};

use super::modify::Transform;
use super::status::Status;
use super::{Api, Call, WriteOptions};
use crate::object;
use crate::registry::{FieldError, FieldErrorReason, Object, Part};

impl Api {
    pub(crate) async fn read_scale(&self, call: &Call) -> Result<Object, Status> {
        Ok(scale_of(&self.read(call).await?))
    }

    /// Changes the scale; `transform` works on the Scale object.
    pub(crate) async fn modify_scale(
        &self,
        call: &Call,
        options: &WriteOptions,
        transform: Transform<'_>,
    ) -> Result<Object, Status> {
        let changed = self
            .modify(call, Part::Main, options, &|current| {
                let scale = transform(&scale_of(current))?;
                let replicas = replicas_of(call, &scale)?;
                let mut wanted = current.clone();
                object::set_meta(&mut wanted, "resourceVersion", object::meta(&scale, "resourceVersion"));
                object::set_meta(&mut wanted, "name", object::name(&scale));
                object::set_at(&mut wanted, &["spec", "replicas"], replicas.into());
                Ok(wanted)
            })
            .await?;
        Ok(scale_of(&changed))
    }
}

fn replicas_of(call: &Call, scale: &Object) -> Result<i64, Status> {
    let kind = scale.get("kind").and_then(Value::as_str).unwrap_or("Scale");
    if kind != "Scale" {
        return Err(Status::bad_request(format!(
            "{kind} in version \"v1\" cannot be handled as a Scale: converting (v1.{kind}) to (autoscaling.Scale): unknown conversion"
        )));
    }
    let replicas = object::at(scale, &["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(0);
    if (0..=i64::from(i32::MAX)).contains(&replicas) {
        return Ok(replicas);
    }
    let error = FieldError {
        field: "spec.replicas".to_owned(),
        reason: FieldErrorReason::Invalid,
        message: format!("Invalid value: {replicas}: must be greater than or equal to 0"),
    };
    Err(Status::invalid_named("Scale.autoscaling", "autoscaling", "Scale", &call.name, &[error]))
}

fn scale_of(object: &Object) -> Object {
    let mut metadata = Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        metadata.insert(field.to_owned(), object::meta(object, field).into());
    }
    let replicas = |path: &[&str]| object::at(object, path).and_then(Value::as_i64).unwrap_or(0);
    let scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": replicas(&["spec", "replicas"])},
        "status": {
            "replicas": replicas(&["status", "replicas"]),
            "selector": selector_text(object),
        },
    });
    scale.as_object().cloned().unwrap_or_default()
}

/// Returns `spec.selector` as text, as label selectors are written in a query.
fn selector_text(object: &Object) -> String {
    let selector = object::at(object, &["spec", "selector"]).cloned().unwrap_or_default();
    Selector::from_value(&selector).map(|selector| selector.to_string()).unwrap_or_default()
}
