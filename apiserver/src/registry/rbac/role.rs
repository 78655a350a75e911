//! Roles and ClusterRoles: sets of rules.

use serde_json::Value;

use super::super::table::{NAME, column, name};
use super::super::validation::field::{invalid, required};
use super::super::validation::metadata::{self, NameRule};
use super::super::value::{list, objects, text};
use super::super::{Column, Context, FieldError, Object, Part, Strategy};

/// The strategy of Roles and ClusterRoles.
pub(in crate::registry) struct Role;

impl Strategy for Role {
    fn default(&self, _object: &mut Object) {}

    fn prepare_create(&self, _context: &Context<'_>, _object: &mut Object) {}

    fn prepare_update(&self, _context: &Context<'_>, _part: Part, _object: &mut Object, _old: &Object) {}

    fn validate(&self, object: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate(object, NameRule::PathSegment);
        errors.extend(validate_rules(object));
        errors
    }

    fn validate_update(&self, _part: Part, object: &Object, old: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate_update(object, old);
        errors.extend(validate_rules(object));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[NAME, column("Created At", "date", "When the object was created.")];
        COLUMNS
    }

    fn row(&self, object: &Object, _now: &str) -> Vec<Value> {
        vec![name(object), Value::from(text(object, &["metadata", "creationTimestamp"]))]
    }
}

fn validate_rules(object: &Object) -> Vec<FieldError> {
    let namespaced = text(object, &["kind"]) == "Role";
    let mut errors = Vec::new();
    for (index, rule) in objects(object, &["rules"]).enumerate() {
        let field = format!("rules[{index}]");
        if list(rule, &["verbs"]).is_empty() {
            errors.push(required(format!("{field}.verbs"), "verbs must contain at least one value"));
        }
        let urls = Value::from(list(rule, &["nonResourceURLs"]));
        if !list(rule, &["nonResourceURLs"]).is_empty() {
            let details = "rules cannot apply to both regular resources and non-resource URLs";
            if namespaced {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                errors.push(invalid(format!("{field}.nonResourceURLs"), &urls, detail));
            } else if !list(rule, &["resources"]).is_empty() {
                errors.push(invalid(format!("{field}.nonResourceURLs"), &urls, details));
            }
            continue;
        }
        if list(rule, &["apiGroups"]).is_empty() {
            let detail = "resource rules must supply at least one api group";
            errors.push(required(format!("{field}.apiGroups"), detail));
        }
        if list(rule, &["resources"]).is_empty() {
            errors.push(required(
                format!("{field}.resources"),
                "resource rules must supply at least one resource",
            ));
        }
    }
    errors
}
