//! Leases: who holds a lock, and node heartbeats.

use serde_json::Value;

use super::super::table::{AGE, NAME, age, column, name};
use super::super::validation::field::invalid;
use super::super::validation::metadata::{self, NameRule};
use super::super::value::{ensure, integer, text};
use super::super::{Column, Context, FieldError, Object, Part, Strategy};

/// The strategy of Leases.
pub(in crate::registry) struct Lease;

impl Strategy for Lease {
    fn default(&self, object: &mut Object) {
        ensure(object, "spec");
    }

    fn prepare_create(&self, _context: &Context<'_>, _object: &mut Object) {}

    fn prepare_update(&self, _context: &Context<'_>, _part: Part, _object: &mut Object, _old: &Object) {}

    fn validate(&self, object: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate(object, NameRule::Subdomain);
        errors.extend(validate_spec(object));
        errors
    }

    fn validate_update(&self, _part: Part, object: &Object, old: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate_update(object, old);
        errors.extend(validate_spec(object));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, column("Holder", "string", "Who holds the lease."), AGE];
        COLUMNS
    }

    fn row(&self, object: &Object, now: &str) -> Vec<Value> {
        vec![name(object), Value::from(text(object, &["spec", "holderIdentity"])), age(object, now)]
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }
}

fn validate_spec(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let number = |field: &str| integer(object, &["spec", field]);
    if let Some(seconds) = number("leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        errors.push(invalid("spec.leaseDurationSeconds", &Value::from(seconds), "must be greater than 0"));
    }
    if let Some(count) = number("leaseTransitions").filter(|count| *count < 0) {
        errors.push(invalid(
            "spec.leaseTransitions",
            &Value::from(count),
            "must be greater than or equal to 0",
        ));
    }
    errors
}
