//! DELETECOLLECTION: deletes what a list selects, object by object.

use super::delete::{DeleteOptions, Deleted};
use super::list::ListOptions;
use super::status::Status;
use super::{Api, Call, WriteOptions};
use crate::object;
use crate::registry::Object;

impl Api {
    /// Deletes every selected object; returns their last states. Objects that vanish meanwhile are fine.
    pub(crate) async fn delete_collection(
        &self,
        call: &Call,
        list: &ListOptions,
        delete: &DeleteOptions,
        options: &WriteOptions,
    ) -> Result<Vec<Object>, Status> {
        let page = self.list(call, list).await?;
        let mut deleted = Vec::with_capacity(page.items.len());
        for item in page.items {
            let one = Call {
                namespace: object::namespace(&item.object).to_owned(),
                name: object::name(&item.object).to_owned(),
                ..call.clone()
            };
            match self.delete(&one, delete, options).await {
                Ok(Deleted::Now(object) | Deleted::Pending(object)) => deleted.push(object),
                Err(status) if status.reason == "NotFound" => {}
                Err(status) => return Err(status),
            }
        }
        Ok(deleted)
    }
}
