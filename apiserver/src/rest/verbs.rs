//! The verbs on objects and collections, between bytes and [`crate::endpoints`].

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::negotiate::View;
use super::query::FieldValidation;
use super::{Rest, RestRequest, body, respond};
use crate::endpoints::Call;
use crate::endpoints::delete::Deleted;
use crate::endpoints::modify::Updated;
use crate::endpoints::status::Status;
use crate::object;
use crate::patch::{self, PatchError, PatchType};
use crate::registry::table::{TableOptions, partial_metadata, table};
use crate::registry::{Kind, Object, Part};
use crate::storage::list::Page;

const PATCH_TYPES: &str =
    "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json";
/// Kinds whose DELETE answers with the object even when it is gone, as upstream.
const RETURNS_DELETED: [&str; 3] = ["pods", "services", "serviceaccounts"];

impl Rest {
    pub(super) async fn get(&self, call: &Call, request: &RestRequest) -> Result<Response<Body>, Status> {
        let object = self.api.read(call).await?;
        Ok(show(call.kind, &object, request, StatusCode::OK))
    }

    pub(super) async fn list(&self, call: &Call, request: &RestRequest) -> Result<Response<Body>, Status> {
        let page = self.api.list(call, &request.query.list_options(call.kind)?).await?;
        Ok(respond::ok(&list_body(call.kind, page, request), request.format))
    }

    pub(super) async fn create(
        &self,
        call: &Call,
        request: &RestRequest,
        content: Body,
    ) -> Result<Response<Body>, Status> {
        let options = request.query.write_options("CreateOptions")?;
        let validation = request.query.field_validation("CreateOptions")?;
        let bytes = request.json(content).await?;
        let read = body::decode(call.kind, &bytes, validation)?;
        let created = self.api.create(call, read.object, &options).await?;
        let response = show(call.kind, &created, request, StatusCode::CREATED);
        Ok(respond::with_warnings(response, &read.warnings))
    }

    pub(super) async fn update(
        &self,
        call: &Call,
        request: &RestRequest,
        content: Body,
    ) -> Result<Response<Body>, Status> {
        self.put_part(call, Part::Main, request, content).await
    }

    pub(super) async fn put_part(
        &self,
        call: &Call,
        part: Part,
        request: &RestRequest,
        content: Body,
    ) -> Result<Response<Body>, Status> {
        let options = request.query.write_options("UpdateOptions")?;
        let validation = request.query.field_validation("UpdateOptions")?;
        let bytes = request.json(content).await?;
        let read = body::decode(call.kind, &bytes, validation)?;
        let (object, code) = match self.api.update(call, part, read.object, &options).await? {
            Updated::Changed(object) => (object, StatusCode::OK),
            Updated::Created(object) => (object, StatusCode::CREATED),
        };
        Ok(respond::with_warnings(show(call.kind, &object, request, code), &read.warnings))
    }

    pub(super) async fn patch(
        &self,
        call: &Call,
        request: &RestRequest,
        content: Body,
    ) -> Result<Response<Body>, Status> {
        self.patch_part(call, Part::Main, request, content).await
    }

    pub(super) async fn patch_part(
        &self,
        call: &Call,
        part: Part,
        request: &RestRequest,
        content: Body,
    ) -> Result<Response<Body>, Status> {
        let options = request.query.write_options("PatchOptions")?;
        let validation = request.query.field_validation("PatchOptions")?;
        let patch_type = request.patch_type()?;
        let patch = body::read(content).await?;
        let warnings = std::sync::Mutex::new(Vec::new());
        let patched = self
            .api
            .modify(call, part, &options, &|current| {
                let read = apply_patch(call.kind, patch_type, current, &patch, validation)?;
                *warnings.lock().expect("no code panics while holding this lock") = read.warnings;
                Ok(read.object)
            })
            .await?;
        let response = show(call.kind, &patched, request, StatusCode::OK);
        let warnings = warnings.into_inner().expect("no code panics while holding this lock");
        Ok(respond::with_warnings(response, &warnings))
    }

    pub(super) async fn delete(
        &self,
        call: &Call,
        request: &RestRequest,
        content: Body,
    ) -> Result<Response<Body>, Status> {
        let bytes = request.json(content).await?;
        let (delete, options) = request.query.delete_options(&delete_body(&bytes)?)?;
        let shown = match self.api.delete(call, &delete, &options).await? {
            Deleted::Pending(object) => Value::Object(object),
            Deleted::Now(object) if RETURNS_DELETED.contains(&call.kind.resource) => Value::Object(object),
            Deleted::Now(object) => success(call.kind, &object),
        };
        Ok(respond::ok(&shown, request.format))
    }

    pub(super) async fn delete_collection(
        &self,
        call: &Call,
        request: &RestRequest,
        content: Body,
    ) -> Result<Response<Body>, Status> {
        let list = request.query.list_options(call.kind)?;
        let bytes = request.json(content).await?;
        let (delete, options) = request.query.delete_options(&delete_body(&bytes)?)?;
        let deleted = self.api.delete_collection(call, &list, &delete, &options).await?;
        let items: Vec<_> = deleted.into_iter().map(Value::Object).collect();
        Ok(respond::ok(&list_of(call.kind, Map::new(), items), request.format))
    }
}

impl RestRequest {
    /// Reads the body as JSON text.
    pub(super) async fn json(&self, content: Body) -> Result<bytes::Bytes, Status> {
        body::to_json(&self.parts.headers, body::read(content).await?)
    }

    pub(super) fn patch_type(&self) -> Result<PatchType, Status> {
        let media_type = respond::header(&self.parts.headers, "content-type");
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        PatchType::from_media_type(media_type).ok_or_else(|| Status::unsupported_media_type(PATCH_TYPES))
    }
}

/// Applies a patch to `current` and reads the result by its schema.
pub(crate) fn apply_patch(
    kind: &Kind,
    patch_type: PatchType,
    current: &Object,
    patch: &[u8],
    validation: FieldValidation,
) -> Result<body::Read, Status> {
    let patched =
        patch::apply(kind, patch_type, current, patch).map_err(|error| patch_error(kind, current, error))?;
    let decoded = kind.normalise(&patched).map_err(|error| body::cannot_be_handled(kind, &error))?;
    body::judge(kind, decoded, validation)
}

pub(crate) fn patch_error(kind: &Kind, current: &Object, error: PatchError) -> Status {
    match error {
        PatchError::Malformed(text) => Status::bad_request(text),
        PatchError::TooLarge(_) => Status::too_large(body::BODY_BYTES_MAX),
        PatchError::NotApplicable(text) => Status::unprocessable(kind, object::name(current), text),
    }
}

fn delete_body(bytes: &[u8]) -> Result<Object, Status> {
    let options = body::decode_plain(bytes)?;
    let kind = options.get("kind").and_then(Value::as_str).unwrap_or("DeleteOptions");
    if kind == "DeleteOptions" {
        return Ok(options);
    }
    let version = options.get("apiVersion").and_then(Value::as_str).unwrap_or("v1");
    Err(Status::bad_request(format!("no kind \"{kind}\" is registered for version \"{version}\"")))
}

fn success(kind: &Kind, object: &Object) -> Value {
    let mut details =
        json!({"name": object::name(object), "kind": kind.resource, "uid": object::uid(object)});
    if let (Some(details), false) = (details.as_object_mut(), kind.group.is_empty()) {
        details.insert("group".to_owned(), kind.group.into());
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// Returns one object as the client wants to see it.
pub(super) fn show(kind: &Kind, object: &Object, request: &RestRequest, code: StatusCode) -> Response<Body> {
    let value = match request.view {
        View::Full => Value::Object(object.clone()),
        View::Metadata => partial_metadata(object),
        View::Table(include) => {
            let metadata = json!({"resourceVersion": object::meta(object, "resourceVersion")});
            table(kind, [object], metadata, TableOptions { now: &request.now, include, with_columns: true })
        }
    };
    respond::body(code, &value, request.format)
}

fn list_body(kind: &Kind, page: Page, request: &RestRequest) -> Value {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".to_owned(), page.revision.0.to_string().into());
    if let Some(next) = &page.next {
        metadata.insert("continue".to_owned(), next.encode().into());
    }
    if let Some(remaining) = page.remaining {
        metadata.insert("remainingItemCount".to_owned(), remaining.into());
    }
    match request.view {
        View::Full => {
            let item = |mut object: Object| {
                // The list says what its items are.
                object.remove("kind");
                object.remove("apiVersion");
                Value::Object(object)
            };
            let items = page.items.into_iter().map(|stored| item(stored.object)).collect();
            list_of(kind, metadata, items)
        }
        View::Metadata => {
            let items: Vec<_> = page.items.iter().map(|stored| partial_metadata(&stored.object)).collect();
            json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata, "items": items,
            })
        }
        View::Table(include) => {
            let objects = page.items.iter().map(|stored| &stored.object);
            let options = TableOptions { now: &request.now, include, with_columns: true };
            table(kind, objects, metadata.into(), options)
        }
    }
}

fn list_of(kind: &Kind, metadata: Map<String, Value>, items: Vec<Value>) -> Value {
    json!({
        "kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(),
        "metadata": metadata, "items": items,
    })
}
