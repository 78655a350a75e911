//! `namespaces/finalize`: the namespace controller's last word on an empty namespace.

use super::status::Status;
use super::{Api, Call, WriteOptions};
use crate::object;
use crate::registry::{Object, Part};

impl Api {
    /// Replaces `spec.finalizers`; a namespace that is being deleted and has none left goes.
    pub(crate) async fn finalize(
        &self,
        call: &Call,
        wanted: &Object,
        options: &WriteOptions,
    ) -> Result<Object, Status> {
        self.modify(call, Part::Main, options, &|current| {
            let mut finalized = current.clone();
            for field in ["name", "uid", "resourceVersion"] {
                object::set_meta(&mut finalized, field, object::meta(wanted, field));
            }
            let finalizers =
                object::at(wanted, &["spec", "finalizers"]).cloned().unwrap_or_else(|| serde_json::json!([]));
            object::set_at(&mut finalized, &["spec", "finalizers"], finalizers);
            Ok(finalized)
        })
        .await
    }
}
