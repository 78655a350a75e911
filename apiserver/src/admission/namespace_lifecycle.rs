//! Objects are made only in namespaces that live, and stay so until the commit; four namespaces cannot be deleted.

use crate::catalog::stored_kind;
use crate::endpoints::delete::is_namespace;
use crate::endpoints::status::Status;
use crate::endpoints::{Api, Call};
use crate::object;
use crate::registry::Object;
use crate::storage::condition::{Condition, Expect, Extras};
use crate::storage::{StorageError, keys};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Refuses an absent or ending namespace and returns the condition that it is still the same at the commit.
pub(super) async fn alive(api: &Api, call: &Call, object: &Object) -> Result<Extras, Status> {
    let namespaces = stored_kind("", "namespaces").ok_or_else(Status::no_such_resource)?;
    let found = api.storage.get(namespaces, "", &call.namespace).await;
    let found = found
        .map_err(|error| Status::from_storage(error, namespaces, &call.namespace))?
        .ok_or_else(|| Status::not_found(namespaces, &call.namespace))?;
    let terminating = object::is_being_deleted(&found.object)
        || object::str_at(&found.object, &["status", "phase"]) == "Terminating";
    if terminating {
        return Err(Status::namespace_terminating(call.kind, object::name(object), &call.namespace));
    }
    let condition = Condition {
        key: keys::object(namespaces, "", &call.namespace),
        expect: Expect::At(found.revision),
        violated: StorageError::NamespaceChanged,
    };
    Ok(Extras { conditions: vec![condition], ..Extras::default() })
}

pub(super) fn check_delete(call: &Call) -> Result<(), Status> {
    if is_namespace(call.kind) && IMMORTAL.contains(&call.name.as_str()) {
        return Err(Status::forbidden(call.kind, &call.name, "this namespace may not be deleted"));
    }
    Ok(())
}
