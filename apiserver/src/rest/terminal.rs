//! `pods/exec` and `pods/attach`.

use axum::body::Body;
use http::Response;

use super::{Rest, RestRequest};
use crate::endpoints::Call;
use crate::endpoints::status::Status;
use crate::registry::Subresource;

impl Rest {
    pub(super) async fn terminal(
        &self,
        call: &Call,
        subresource: Subresource,
        request: RestRequest,
    ) -> Result<Response<Body>, Status> {
        Err(Status::not_implemented("exec"))
    }
}
