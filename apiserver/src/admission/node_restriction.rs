//! A node writes only its own Node and Lease, and only the status and end of pods bound to it.

use crate::admission::Operation;
use crate::authz::node_name;
use crate::endpoints::Call;
use crate::endpoints::status::Status;
use crate::object;
use crate::registry::Object;

pub(super) fn check(call: &Call, operation: Operation<'_>, object: &Object) -> Result<(), Status> {
    let Some(node) = node_name(&call.user) else { return Ok(()) };
    let refuse = |why: &str| Err(Status::forbidden(call.kind, &call.name, &format!("node \"{node}\" {why}")));
    let name = object::name(object);
    match (call.kind.group, call.kind.resource) {
        ("", "nodes") if name != node => refuse(&format!("is not allowed to modify node \"{name}\"")),
        ("coordination.k8s.io", "leases")
            if object::namespace(object) != "kube-node-lease" || name != node =>
        {
            refuse("can only access node lease with the same name as the requesting node")
        }
        ("", "pods") => match operation {
            Operation::Create => refuse("can only create mirror pods, which this server does not know yet"),
            Operation::Update { old, .. } if !is_bound_to(old, node) => {
                refuse("can only update pod status for pods with spec.nodeName set to itself")
            }
            Operation::Delete if !is_bound_to(object, node) => {
                refuse("can only delete pods with spec.nodeName set to itself")
            }
            Operation::Update { .. } | Operation::Delete => Ok(()),
        },
        _ => Ok(()),
    }
}

fn is_bound_to(pod: &Object, node: &str) -> bool {
    object::str_at(pod, &["spec", "nodeName"]) == node
}
