//! What a write must pass, and what is added to it, between its author and the store.
//!
//! Plugins run in the order of [`Api::admit`]. A plugin may change the object, refuse it, and add conditions and
//! further keys to the commit ([`Extras`]), so that what it checked is still true when the object is written.

mod namespace_lifecycle;
mod node_restriction;
mod service_account;
mod service_addresses;
mod tolerations;

pub use service_addresses::ServiceRanges;

use crate::endpoints::status::Status;
use crate::endpoints::{Api, Call};
use crate::registry::{Object, Part, Scope};
use crate::storage::condition::Extras;

/// What a write does.
#[derive(Clone, Copy)]
pub(crate) enum Operation<'a> {
    Create,
    Update { old: &'a Object, part: Part },
    Delete,
}

impl Api {
    /// Runs every plugin on a write.
    pub(crate) async fn admit(
        &self,
        call: &Call,
        operation: Operation<'_>,
        object: &mut Object,
    ) -> Result<Extras, Status> {
        let mut extras = Extras::default();
        node_restriction::check(call, operation, object)?;
        match operation {
            Operation::Create => {
                if call.kind.scope == Scope::Namespaced {
                    extras.merge(namespace_lifecycle::alive(self, call, object).await?);
                }
                if is_core(call, "pods") {
                    service_account::mount(self, call, object).await?;
                    tolerations::add_defaults(object);
                }
                if is_core(call, "services") {
                    extras.merge(service_addresses::allocate(self, call, None, object).await?);
                }
            }
            Operation::Update { old, part: Part::Main } => {
                if is_core(call, "services") {
                    extras.merge(service_addresses::allocate(self, call, Some(old), object).await?);
                }
            }
            Operation::Update { part: Part::Status, .. } => {}
            Operation::Delete => namespace_lifecycle::check_delete(call)?,
        }
        Ok(extras)
    }

    /// Returns what the commit that removes `object` must also remove.
    pub(crate) fn released_with(&self, call: &Call, object: &Object) -> Extras {
        let mut extras = Extras::default();
        if is_core(call, "services") {
            extras.deletes = service_addresses::keys_of(object);
        }
        extras
    }
}

fn is_core(call: &Call, resource: &str) -> bool {
    call.kind.group.is_empty() && call.kind.resource == resource
}
