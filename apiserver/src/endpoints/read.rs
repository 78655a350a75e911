//! GET of one object.

use super::status::Status;
use super::{Api, Call};
use crate::registry::Object;

impl Api {
    /// Returns the newest state, confirmed by a quorum.
    pub(crate) async fn read(&self, call: &Call) -> Result<Object, Status> {
        Ok(self.existing(call).await?.object)
    }
}
