//! Service `Api`: the verbs on objects.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use proto::keelson::api_server::Api as ApiService;
use proto::keelson::{
    BindRequest, CreateRequest, CreateTokenRequest, CreateTokenResponse, DeleteRequest, DeleteResponse,
    Encoding, EventType as WireEventType, GetRequest, ListRequest, ListResponse, Object as WireObject,
    PatchRequest, PatchType as WirePatchType, RenewLeaseRequest, UpdateRequest, WatchEvent as WireEvent,
    WatchRequest, WriteOptions as WireOptions,
};
use serde_json::{Value, json};
use tonic::{Request, Response};

use super::Services;
use super::status::to_grpc;
use crate::endpoints::bind::Binding;
use crate::endpoints::delete::{DeleteOptions, Deleted};
use crate::endpoints::list::ListOptions;
use crate::endpoints::modify::Updated;
use crate::endpoints::status::{FENCED_OUT, Status};
use crate::endpoints::token::TokenWanted;
use crate::endpoints::watch::{EventType, WatchEvent, WatchOptions};
use crate::endpoints::{Call, Fence, Persist, WriteOptions};
use crate::object;
use crate::patch::{self, PatchType};
use crate::registry::{Object, Part};
use crate::rest::body;
use crate::rest::query::{FieldValidation, propagation_of};
use crate::rest::verbs::{apply_patch, patch_error};
use crate::schema::Schemas;
use crate::selector::Selector;

/// Watches end after this time; clients resume without a gap.
const WATCH_TIMEOUT: Duration = Duration::from_secs(3_600);

type Answer<T> = Result<Response<T>, tonic::Status>;

impl Services {
    /// Answers with an object.
    fn object(&self, outcome: Result<Object, Status>) -> Answer<WireObject> {
        outcome.map(|object| Response::new(to_wire(object))).map_err(|status| self.failed(&status))
    }

    /// Answers with the object that was written; a leader whose time is over is told so first.
    async fn written(
        &self,
        call: &Call,
        options: &WriteOptions,
        outcome: Result<Object, Status>,
    ) -> Answer<WireObject> {
        match outcome {
            Ok(object) => self.object(Ok(object)),
            Err(failure) => self.object(Err(self.api.why_failed(call, options, failure).await)),
        }
    }

    /// Converts a verb's failure and counts refused leaders.
    fn failed(&self, status: &Status) -> tonic::Status {
        if status.has_cause(FENCED_OUT) {
            self.metrics.fenced_out();
        }
        to_grpc(status)
    }
}

#[tonic::async_trait]
impl ApiService for Services {
    async fn get(&self, request: Request<GetRequest>) -> Answer<WireObject> {
        let (call, wanted) = self.allow(request).await?;
        let object = match wanted.subresource.as_str() {
            "" | "status" => self.api.read(&call).await,
            "scale" => self.api.read_scale(&call).await,
            _ => Err(Status::no_such_resource()),
        };
        self.object(object)
    }

    async fn list(&self, request: Request<ListRequest>) -> Answer<ListResponse> {
        let (call, wanted) = self.allow(request).await?;
        let list = async {
            let selector = Selector::parse(call.kind, &wanted.label_selector, &wanted.field_selector);
            let options = ListOptions {
                selector: selector.map_err(Status::bad_request)?,
                limit: wanted.limit,
                continue_token: wanted.continue_token,
                resource_version: wanted.resource_version,
                resource_version_match: String::new(),
            };
            self.api.list(&call, &options).await
        };
        let page = list.await.map_err(|status| self.failed(&status))?;
        Ok(Response::new(ListResponse {
            items: page.items.into_iter().map(|stored| to_wire(stored.object)).collect(),
            resource_version: u64::try_from(page.revision.0).unwrap_or(0),
            continue_token: page.next.map(|next| next.encode()).unwrap_or_default(),
            remaining_item_count: page.remaining.unwrap_or(0),
        }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WireEvent, tonic::Status>> + Send>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        let (call, wanted) = self.allow(request).await?;
        let watch = async {
            let selector = Selector::parse(call.kind, &wanted.label_selector, &wanted.field_selector);
            let version = match wanted.resource_version {
                0 => String::new(),
                version => version.to_string(),
            };
            let options = WatchOptions {
                selector: selector.map_err(Status::bad_request)?,
                resource_version: version,
                resource_version_match: "NotOlderThan".to_owned(),
                send_initial_events: Some(wanted.send_initial_events),
                bookmarks: wanted.allow_bookmarks,
                timeout: WATCH_TIMEOUT,
            };
            self.api.watch(&call, options).await
        };
        let events = watch.await.map_err(|status| self.failed(&status))?;
        let events = events.map(|event| event.map(event_to_wire).map_err(|status| to_grpc(&status)));
        Ok(Response::new(Box::pin(events.take_until(self.shutdown.clone().cancelled_owned()))))
    }

    async fn create(&self, request: Request<CreateRequest>) -> Answer<WireObject> {
        let (call, wanted) = self.allow(request).await?;
        let mut options = write_options(wanted.options);
        options.idempotency_key = Some(wanted.idempotency_key).filter(|key| !key.is_empty());
        let create = async {
            if wanted.subresource == "eviction" {
                let deleted = self.api.delete(&call, &DeleteOptions::default(), &options).await?;
                let (Deleted::Now(object) | Deleted::Pending(object)) = deleted;
                return Ok(object);
            }
            if !wanted.subresource.is_empty() {
                return Err(Status::not_implemented(&format!("creating {} over gRPC", wanted.subresource)));
            }
            let collection = Call { name: String::new(), ..call.clone() };
            let read = body::decode(collection.kind, &wanted.raw, FieldValidation::Ignore)?;
            self.api.create(&collection, read.object, &options).await
        };
        let created = create.await;
        self.written(&call, &options, created).await
    }

    async fn update(&self, request: Request<UpdateRequest>) -> Answer<WireObject> {
        let (call, wanted) = self.allow(request).await?;
        let options = write_options(wanted.options);
        let update = async {
            let part = match wanted.subresource.as_str() {
                "" => Part::Main,
                "status" => Part::Status,
                "finalize" => {
                    return self.api.finalize(&call, &body::decode_plain(&wanted.raw)?, &options).await;
                }
                "scale" => {
                    let scale = body::decode_plain(&wanted.raw)?;
                    return self.api.modify_scale(&call, &options, &|_| Ok(scale.clone())).await;
                }
                _ => return Err(Status::no_such_resource()),
            };
            let read = body::decode(call.kind, &wanted.raw, FieldValidation::Ignore)?;
            let (Updated::Changed(object) | Updated::Created(object)) =
                self.api.update(&call, part, read.object, &options).await?;
            Ok(object)
        };
        let updated = update.await;
        self.written(&call, &options, updated).await
    }

    async fn patch(&self, request: Request<PatchRequest>) -> Answer<WireObject> {
        let (call, wanted) = self.allow(request).await?;
        let patch_type = match wanted.patch_type() {
            WirePatchType::Json => PatchType::Json,
            WirePatchType::Strategic => PatchType::Strategic,
            WirePatchType::Merge | WirePatchType::Unspecified => PatchType::Merge,
        };
        let options = write_options(wanted.options.clone());
        let patch = async {
            let part = match wanted.subresource.as_str() {
                "" => Part::Main,
                "status" => Part::Status,
                "scale" => {
                    let transform = |current: &Object| {
                        let schemas = Schemas::builtin();
                        patch::apply_to_schema(
                            schemas,
                            "autoscaling",
                            "v1",
                            "Scale",
                            patch_type,
                            current,
                            &wanted.patch,
                        )
                        .map_err(|error| patch_error(call.kind, current, error))
                    };
                    return self.api.modify_scale(&call, &options, &transform).await;
                }
                _ => return Err(Status::no_such_resource()),
            };
            let transform = |current: &Object| {
                let read =
                    apply_patch(call.kind, patch_type, current, &wanted.patch, FieldValidation::Ignore)?;
                Ok(read.object)
            };
            self.api.modify(&call, part, &options, &transform).await
        };
        let patched = patch.await;
        self.written(&call, &options, patched).await
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Answer<DeleteResponse> {
        let (call, wanted) = self.allow(request).await?;
        let options = write_options(wanted.options);
        let delete = async {
            let delete = DeleteOptions {
                uid: Some(wanted.uid).filter(|uid| !uid.is_empty()),
                resource_version: (wanted.resource_version > 0).then(|| wanted.resource_version.to_string()),
                grace_seconds: wanted.grace_period_seconds,
                propagation: propagation_of(&wanted.propagation_policy)?,
            };
            self.api.delete(&call, &delete, &options).await
        };
        let (object, deleted) = match delete.await {
            Ok(Deleted::Now(object)) => (object, true),
            Ok(Deleted::Pending(object)) => (object, false),
            Err(failure) => return Err(self.failed(&self.api.why_failed(&call, &options, failure).await)),
        };
        Ok(Response::new(DeleteResponse { object: Some(to_wire(object)), deleted }))
    }

    async fn bind(&self, request: Request<BindRequest>) -> Answer<WireObject> {
        let (call, wanted) = self.allow(request).await?;
        let options = write_options(wanted.options);
        let binding = Binding { uid: wanted.uid, node: wanted.node, annotations: None };
        let bound = self.api.bind(&call, &binding, &options).await;
        self.written(&call, &options, bound).await
    }

    async fn renew_lease(&self, request: Request<RenewLeaseRequest>) -> Answer<WireObject> {
        let (call, wanted) = self.allow(request).await?;
        let renewed = self.renew(&call, &wanted).await;
        self.object(renewed)
    }

    async fn create_token(&self, request: Request<CreateTokenRequest>) -> Answer<CreateTokenResponse> {
        let (call, wanted) = self.allow(request).await?;
        let bound = (!wanted.bound_kind.is_empty()).then_some((
            wanted.bound_kind,
            wanted.bound_name,
            wanted.bound_uid,
        ));
        let token = TokenWanted {
            audiences: wanted.audiences,
            expiration_seconds: i64::try_from(wanted.expiration_seconds).ok().filter(|seconds| *seconds > 0),
            bound,
        };
        let issued = self.api.issue_token(&call, &token).await.map_err(|status| self.failed(&status))?;
        Ok(Response::new(CreateTokenResponse {
            token: issued.token,
            expires_at_unix_seconds: u64::try_from(issued.expires.as_second()).unwrap_or(0),
        }))
    }
}

impl Services {
    /// Sets holder and renewal time of a node's Lease, which is made when absent.
    async fn renew(&self, call: &Call, wanted: &RenewLeaseRequest) -> Result<Object, Status> {
        let now = self.api.outside.now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let options = WriteOptions::default();
        let renewed = self
            .api
            .modify(call, Part::Main, &options, &|current| {
                let mut lease = current.clone();
                set_holder(&mut lease, wanted, &now);
                Ok(lease)
            })
            .await;
        match renewed {
            Err(status) if status.reason == "NotFound" => {
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": wanted.name, "namespace": wanted.namespace},
                });
                let mut lease = lease.as_object().cloned().unwrap_or_default();
                set_holder(&mut lease, wanted, &now);
                object::set_at(&mut lease, &["spec", "acquireTime"], now.into());
                let collection = Call { name: String::new(), ..call.clone() };
                self.api.create(&collection, lease, &options).await
            }
            other => other,
        }
    }
}

fn set_holder(lease: &mut Object, wanted: &RenewLeaseRequest, now: &str) {
    object::set_at(lease, &["spec", "holderIdentity"], wanted.holder.as_str().into());
    object::set_at(lease, &["spec", "leaseDurationSeconds"], wanted.duration_seconds.into());
    object::set_at(lease, &["spec", "renewTime"], now.into());
}

fn write_options(options: Option<WireOptions>) -> WriteOptions {
    let Some(WireOptions { fence, dry_run, field_manager: _ }) = options else {
        return WriteOptions::default();
    };
    WriteOptions {
        persist: if dry_run { Persist::DryRun } else { Persist::Commit },
        fence: fence.map(|fence| Fence { lock: fence.lock, epoch: fence.epoch }),
        idempotency_key: None,
    }
}

fn to_wire(object: Object) -> WireObject {
    WireObject {
        encoding: Encoding::Json.into(),
        uid: object::uid(&object).to_owned(),
        resource_version: object::resource_version(&object)
            .and_then(|version| u64::try_from(version).ok())
            .unwrap_or(0),
        namespace: object::namespace(&object).to_owned(),
        name: object::name(&object).to_owned(),
        raw: Value::Object(object).to_string().into(),
    }
}

fn event_to_wire(event: WatchEvent) -> WireEvent {
    let event_type = match event.event_type {
        EventType::Added => WireEventType::Added,
        EventType::Modified => WireEventType::Modified,
        EventType::Deleted => WireEventType::Deleted,
        EventType::Bookmark => WireEventType::Bookmark,
    };
    WireEvent {
        r#type: event_type.into(),
        object: Some(to_wire(event.object)),
        initial_events_end: event.initial_events_end,
    }
}
