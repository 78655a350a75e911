//! The fake API on the wire: gRPC services over [`super::state::State`].

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use proto::keelson as wire;
use proto::keelson::api_server::Api;
use proto::keelson::leadership_server::Leadership;
use serde_json::json;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status};

use super::state::{Query, State};
use super::{Fault, Shared};
use crate::error::{ApiError, CAUSE_FENCED_OUT, STATUS_TRAILER};

#[derive(Clone, Debug)]
pub(super) struct FakeService(pub(super) Arc<Shared>);

impl FakeService {
    /// Runs a write, unless a fault was injected.
    fn write<T>(&self, run: impl FnOnce(&mut State) -> Result<T, ApiError>) -> Result<Response<T>, Status> {
        let fault = self.0.state().next_fault();
        match fault {
            Some(Fault::Refuse) => return Err(status(&ApiError::Unavailable(Default::default()))),
            Some(Fault::Fail) => return Err(status(&ApiError::Internal(Default::default()))),
            Some(Fault::LoseAnswer) | None => {}
        }
        let result = self.0.change(run).map(Response::new).map_err(|error| status(&error));
        match fault {
            Some(Fault::LoseAnswer) => Err(Status::unavailable("connection lost")),
            _ => result,
        }
    }
}

fn kind_of(kind: Option<&wire::ResourceType>) -> Result<wire::ResourceType, Status> {
    kind.cloned().ok_or_else(|| Status::invalid_argument("no resource type"))
}

#[tonic::async_trait]
impl Api for FakeService {
    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<wire::Object>, Status> {
        let request = request.into_inner();
        let kind = kind_of(request.r#type.as_ref())?;
        let found = self.0.state().get(&kind, &request.namespace, &request.name);
        found.map(Response::new).map_err(|error| status(&error))
    }

    async fn list(
        &self,
        request: Request<wire::ListRequest>,
    ) -> Result<Response<wire::ListResponse>, Status> {
        let request = request.into_inner();
        let kind = kind_of(request.r#type.as_ref())?;
        let query = Query::new(&kind, &request.namespace, &request.label_selector, &request.field_selector)
            .map_err(|error| status(&error))?;
        let state = self.0.state();
        Ok(Response::new(wire::ListResponse {
            items: state.list(&query),
            resource_version: state.revision(),
            ..Default::default()
        }))
    }

    type WatchStream = BoxStream<'static, Result<wire::WatchEvent, Status>>;

    async fn watch(
        &self,
        request: Request<wire::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let kind = kind_of(request.r#type.as_ref())?;
        let query = Query::new(&kind, &request.namespace, &request.label_selector, &request.field_selector)
            .map_err(|error| status(&error))?;
        let watch = Watch { shared: Arc::clone(&self.0), query, revision: request.resource_version };
        let batches = stream::unfold(Some(watch), |watch| async move { watch?.next_batch().await });
        Ok(Response::new(batches.flat_map(stream::iter).boxed()))
    }

    async fn create(&self, request: Request<wire::CreateRequest>) -> Result<Response<wire::Object>, Status> {
        let request = request.into_inner();
        let kind = kind_of(request.r#type.as_ref())?;
        let fence = request.options.and_then(|options| options.fence);
        self.write(|state| state.create(&kind, &request.raw, &request.idempotency_key, fence.as_ref()))
    }

    async fn update(&self, request: Request<wire::UpdateRequest>) -> Result<Response<wire::Object>, Status> {
        let request = request.into_inner();
        let kind = kind_of(request.r#type.as_ref())?;
        let fence = request.options.and_then(|options| options.fence);
        self.write(|state| state.update(&kind, &request.subresource, &request.raw, fence.as_ref()))
    }

    async fn patch(&self, request: Request<wire::PatchRequest>) -> Result<Response<wire::Object>, Status> {
        let request = request.into_inner();
        let kind = kind_of(request.r#type.as_ref())?;
        self.write(|state| state.patch(&request, &kind))
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteRequest>,
    ) -> Result<Response<wire::DeleteResponse>, Status> {
        let request = request.into_inner();
        let kind = kind_of(request.r#type.as_ref())?;
        self.write(|state| {
            let deleted = state.delete(&request, &kind)?;
            Ok(wire::DeleteResponse { object: None, deleted })
        })
    }

    async fn bind(&self, request: Request<wire::BindRequest>) -> Result<Response<wire::Object>, Status> {
        let request = request.into_inner();
        self.write(|state| state.bind(&request))
    }

    async fn renew_lease(
        &self,
        request: Request<wire::RenewLeaseRequest>,
    ) -> Result<Response<wire::Object>, Status> {
        let request = request.into_inner();
        self.write(|state| state.renew_lease(&request))
    }

    async fn create_token(
        &self,
        request: Request<wire::CreateTokenRequest>,
    ) -> Result<Response<wire::CreateTokenResponse>, Status> {
        let request = request.into_inner();
        let expires_at_unix_seconds = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
            + request.expiration_seconds.max(3600);
        let token = format!("fake-token-of-{}-{}", request.namespace, request.service_account);
        Ok(Response::new(wire::CreateTokenResponse { token, expires_at_unix_seconds }))
    }
}

#[tonic::async_trait]
impl Leadership for FakeService {
    async fn acquire(
        &self,
        request: Request<wire::AcquireRequest>,
    ) -> Result<Response<wire::AcquireResponse>, Status> {
        Ok(Response::new(self.0.change(|state| state.acquire(request.get_ref()))))
    }

    async fn renew(
        &self,
        request: Request<wire::RenewRequest>,
    ) -> Result<Response<wire::RenewResponse>, Status> {
        let request = request.into_inner();
        let held = self.0.state().holds(&request.lock, &request.identity, request.epoch);
        Ok(Response::new(wire::RenewResponse { held }))
    }

    async fn release(
        &self,
        request: Request<wire::ReleaseRequest>,
    ) -> Result<Response<wire::ReleaseResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.0.state();
        if state.holds(&request.lock, &request.identity, request.epoch) {
            state.depose(&request.lock);
        }
        Ok(Response::new(wire::ReleaseResponse {}))
    }
}

/// One watch and how far it has come.
struct Watch {
    shared: Arc<Shared>,
    query: Query,
    revision: u64,
}

type Batch = Vec<Result<wire::WatchEvent, Status>>;

impl Watch {
    /// Waits for news and returns them with a bookmark behind; after an error there is no next batch.
    async fn next_batch(mut self) -> Option<(Batch, Option<Self>)> {
        let mut held = self.shared.watches_held.subscribe();
        let mut revision = self.shared.revision.subscribe();
        held.wait_for(|held| !held).await.ok()?;
        revision.wait_for(|revision| *revision > self.revision).await.ok()?;
        let (events, now) = {
            let state = self.shared.state();
            (state.events_after(self.revision), state.revision())
        };
        let events = match events {
            Ok(events) => events,
            Err(error) => return Some((vec![Err(status(&error))], None)),
        };
        let mut batch: Batch = events
            .iter()
            .filter_map(|event| self.query.view(event))
            .map(|(kind, object)| {
                Ok(wire::WatchEvent { r#type: kind.into(), object: Some(object), initial_events_end: false })
            })
            .collect();
        let bookmark = wire::Object { resource_version: now, ..Default::default() };
        batch.push(Ok(wire::WatchEvent {
            r#type: wire::EventType::Bookmark.into(),
            object: Some(bookmark),
            initial_events_end: false,
        }));
        self.revision = now;
        Some((batch, Some(self)))
    }
}

/// Writes a failure as the real server does.
fn status(error: &ApiError) -> Status {
    let (code, http_code, reason) = match error {
        ApiError::NotFound(_) => (Code::NotFound, 404, "NotFound"),
        ApiError::AlreadyExists(_) => (Code::AlreadyExists, 409, "AlreadyExists"),
        ApiError::Conflict(_) | ApiError::FencedOut(_) => (Code::Aborted, 409, "Conflict"),
        ApiError::Invalid(_) => (Code::InvalidArgument, 422, "Invalid"),
        ApiError::Expired(_) => (Code::OutOfRange, 410, "Expired"),
        ApiError::Unavailable(_) => (Code::Unavailable, 503, "ServiceUnavailable"),
        _ => (Code::Internal, 500, "InternalError"),
    };
    let causes = match error {
        ApiError::FencedOut(_) => json!([{"reason": CAUSE_FENCED_OUT}]),
        _ => json!([]),
    };
    let message = error.failure().message.clone();
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": http_code,
        "reason": reason, "message": message, "details": {"causes": causes}});
    let mut status = Status::new(code, message);
    status.metadata_mut().insert_bin(STATUS_TRAILER, MetadataValue::from_bytes(body.to_string().as_bytes()));
    status
}
