//! What Pods and the templates of workloads share: defaults and checks of a pod's spec.

mod defaults;
mod qos;
mod validate;

pub(super) use defaults::{default_pod_resources, default_spec, default_template};
pub(super) use qos::qos_class;
pub(super) use validate::{TemplateRules, validate_spec, validate_template};
