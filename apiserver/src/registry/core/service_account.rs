//! ServiceAccounts: identities of workloads.

use serde_json::Value;

use super::super::table::{AGE, NAME, age, name};
use super::super::validation::metadata::{self, NameRule};
use super::super::{Column, Context, FieldError, Object, Part, Strategy};

/// The strategy of ServiceAccounts.
pub(in crate::registry) struct ServiceAccount;

impl Strategy for ServiceAccount {
    fn default(&self, _object: &mut Object) {}

    fn prepare_create(&self, _context: &Context<'_>, _object: &mut Object) {}

    fn prepare_update(&self, _context: &Context<'_>, _part: Part, _object: &mut Object, _old: &Object) {}

    fn validate(&self, object: &Object) -> Vec<FieldError> {
        metadata::validate(object, NameRule::Subdomain)
    }

    fn validate_update(&self, _part: Part, object: &Object, old: &Object) -> Vec<FieldError> {
        metadata::validate_update(object, old)
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, AGE];
        COLUMNS
    }

    fn row(&self, object: &Object, now: &str) -> Vec<Value> {
        vec![name(object), age(object, now)]
    }
}
