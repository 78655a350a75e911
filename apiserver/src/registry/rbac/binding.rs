//! RoleBindings and ClusterRoleBindings: who has a role.

use proto::api::names;
use serde_json::Value;

use super::super::table::{AGE, NAME, age, column, name, wide};
use super::super::validation::field::{all_invalid, invalid, not_supported, required};
use super::super::validation::metadata::{self, NameRule};
use super::super::value::{at, ensure, objects, objects_mut, set_default_text, text};
use super::super::{Column, Context, FieldError, Object, Part, Strategy};

const GROUP: &str = "rbac.authorization.k8s.io";

/// The strategy of RoleBindings and ClusterRoleBindings.
pub(in crate::registry) struct Binding;

impl Strategy for Binding {
    fn default(&self, object: &mut Object) {
        set_default_text(ensure(object, "roleRef"), "apiGroup", GROUP);
        for subject in objects_mut(object, "subjects") {
            if matches!(text(subject, &["kind"]), "User" | "Group") {
                set_default_text(subject, "apiGroup", GROUP);
            }
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, _object: &mut Object) {}

    fn prepare_update(&self, _context: &Context<'_>, _part: Part, _object: &mut Object, _old: &Object) {}

    fn validate(&self, object: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate(object, NameRule::PathSegment);
        errors.extend(validate_content(object));
        errors
    }

    fn validate_update(&self, _part: Part, object: &Object, old: &Object) -> Vec<FieldError> {
        let mut errors = metadata::validate_update(object, old);
        errors.extend(validate_content(object));
        if at(object, &["roleRef"]) != at(old, &["roleRef"]) {
            let value = at(object, &["roleRef"]).unwrap_or(&Value::Null);
            errors.push(invalid("roleRef", value, "cannot change roleRef"));
        }
        errors
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Role", "string", "Role that is given."),
            AGE,
            wide("Users", "Users that have it."),
            wide("Groups", "Groups that have it."),
            wide("ServiceAccounts", "Service accounts that have it."),
        ];
        COLUMNS
    }

    fn row(&self, object: &Object, now: &str) -> Vec<Value> {
        let role = format!("{}/{}", text(object, &["roleRef", "kind"]), text(object, &["roleRef", "name"]));
        let subjects = |kind: &str| {
            let named = objects(object, &["subjects"]).filter(|subject| text(subject, &["kind"]) == kind);
            let name = |subject: &Object| match text(subject, &["namespace"]) {
                "" => text(subject, &["name"]).to_owned(),
                namespace => format!("{namespace}/{}", text(subject, &["name"])),
            };
            Value::from(named.map(name).collect::<Vec<_>>().join(", "))
        };
        vec![
            name(object),
            Value::from(role),
            age(object, now),
            subjects("User"),
            subjects("Group"),
            subjects("ServiceAccount"),
        ]
    }
}

fn validate_content(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let reference = |field: &str| text(object, &["roleRef", field]);
    if reference("apiGroup") != GROUP {
        errors.push(not_supported("roleRef.apiGroup", reference("apiGroup"), &[GROUP]));
    }
    let cluster = text(object, &["kind"]) == "ClusterRoleBinding";
    let kinds: &[&str] = if cluster { &["ClusterRole"] } else { &["Role", "ClusterRole"] };
    if !kinds.contains(&reference("kind")) {
        errors.push(not_supported("roleRef.kind", reference("kind"), kinds));
    }
    if reference("name").is_empty() {
        errors.push(required("roleRef.name", ""));
    }
    for (index, subject) in objects(object, &["subjects"]).enumerate() {
        let field = format!("subjects[{index}]");
        if text(subject, &["name"]).is_empty() {
            errors.push(required(format!("{field}.name"), ""));
        }
        match text(subject, &["kind"]) {
            "ServiceAccount" => {
                let name = text(subject, &["name"]);
                if !name.is_empty() {
                    errors.extend(all_invalid(&format!("{field}.name"), name, names::dns_subdomain(name)));
                }
                // Inside a namespace the binding's own is meant.
                if cluster && text(subject, &["namespace"]).is_empty() {
                    errors.push(required(format!("{field}.namespace"), ""));
                }
            }
            "User" | "Group" => {
                let group = text(subject, &["apiGroup"]);
                if group != GROUP {
                    errors.push(not_supported(format!("{field}.apiGroup"), group, &[GROUP]));
                }
            }
            other => {
                errors.push(not_supported(
                    format!("{field}.kind"),
                    other,
                    &["ServiceAccount", "User", "Group"],
                ));
            }
        }
    }
    errors
}
