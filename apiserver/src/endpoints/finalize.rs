//! `namespaces/finalize`: the namespace controller's last word on an empty namespace.

use serde_json::json;

use super::modify::{check_preconditions, is_fully_released};
use super::status::Status;
use super::{Api, Call, Persist, WRITE_ATTEMPTS, WriteOptions, is_lost_race};
use crate::object;
use crate::registry::Object;
use crate::storage::{StorageError, Stored};

impl Api {
    /// Replaces `spec.finalizers`, which no other write may change; a namespace that is being deleted and has none
    /// left goes.
    pub(crate) async fn finalize(
        &self,
        call: &Call,
        wanted: &Object,
        options: &WriteOptions,
    ) -> Result<Object, Status> {
        for _ in 0..WRITE_ATTEMPTS {
            let current = self.existing(call).await?;
            check_preconditions(call, &current.object, wanted)?;
            let finalizers =
                object::at(wanted, &["spec", "finalizers"]).cloned().unwrap_or_else(|| json!([]));
            let mut finalized = current.object.clone();
            object::set_at(&mut finalized, &["spec", "finalizers"], finalizers);
            if options.persist == Persist::DryRun || finalized == current.object {
                return Ok(finalized);
            }
            let extras = options.extras();
            let outcome = if is_fully_released(&finalized) {
                let gone = Stored { object: finalized.clone(), revision: current.revision };
                self.storage.delete(call.kind, &gone, extras).await.map(|_| finalized)
            } else {
                let replaced = self.storage.replace(call.kind, &finalized, current.revision, extras).await;
                replaced.map(|stored| stored.object)
            };
            match outcome {
                Ok(object) => return Ok(object),
                Err(error) if is_lost_race(&error) => {}
                Err(error) => return Err(Status::from_storage(error, call.kind, &call.name)),
            }
        }
        Err(Status::from_storage(StorageError::Modified, call.kind, &call.name))
    }
}
