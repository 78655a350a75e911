//! The one place where failures become `metav1.Status`: codes, reasons and texts are upstream's.

use http::StatusCode;
use serde_json::{Map, Value, json};

use store::kv::KvError;

use crate::registry::{FieldError, Kind};
use crate::storage::StorageError;

/// A failed request, as the client will read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: StatusCode,
    /// Machine-readable reason; empty for "unknown".
    pub reason: &'static str,
    pub message: String,
    pub details: Option<Box<Details>>,
}

/// The `details` of a Status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    pub name: String,
    pub group: String,
    pub kind: String,
    pub causes: Vec<Cause>,
    pub retry_after_seconds: u32,
}

/// One cause of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    pub reason: String,
    pub message: String,
    pub field: String,
}

/// Cause of a write that was refused because its leadership is over.
pub const FENCED_OUT: &str = "FencedOut";

impl Status {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    fn about(mut self, kind: &Kind, name: &str) -> Self {
        self.details = Some(Box::new(Details {
            name: name.to_owned(),
            group: kind.group.to_owned(),
            kind: kind.resource.to_owned(),
            ..Details::default()
        }));
        self
    }

    fn with_cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        let details = self.details.get_or_insert_default();
        let (reason, message, field) = (reason.to_owned(), message.to_owned(), field.to_owned());
        details.causes.push(Cause { reason, message, field });
        self
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn not_found(kind: &Kind, name: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            format!("{} \"{name}\" not found", kind.qualified_resource()),
        )
        .about(kind, name)
    }

    /// An unknown path or resource.
    pub(crate) fn no_such_resource() -> Self {
        let mut status =
            Self::new(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource");
        status.details = Some(Box::default());
        status
    }

    pub(crate) fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.qualified_resource());
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(kind, name)
    }

    pub(crate) fn being_deleted(kind: &Kind, name: &str) -> Self {
        let message =
            format!("object is being deleted: {} \"{name}\" already exists", kind.qualified_resource());
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(kind, name)
    }

    pub(crate) fn generated_name_taken(kind: &Kind, name: &str) -> Self {
        let mut status = Self::already_exists(kind, name).retry_after(1);
        status.message = format!(
            "{} \"{name}\" already exists, the server was not able to generate a unique name for the object",
            kind.qualified_resource()
        );
        status
    }

    pub(crate) fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.qualified_resource());
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(kind, name)
    }

    pub(crate) fn modified(kind: &Kind, name: &str) -> Self {
        Self::conflict(
            kind,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// A failed precondition of a delete; upstream names the kind here, not the resource.
    pub(crate) fn precondition(kind: &Kind, name: &str, why: &str) -> Self {
        let mut status = Self::conflict(kind, name, why);
        status.message =
            format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.qualified_kind());
        if let Some(details) = &mut status.details {
            details.kind = kind.kind.to_owned();
        }
        status
    }

    pub(crate) fn binding_conflict(name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on pods/binding \"{name}\": {why}");
        let mut status = Self::new(StatusCode::CONFLICT, "Conflict", message);
        status.details = Some(Box::new(Details {
            name: name.to_owned(),
            kind: "pods/binding".to_owned(),
            ..Details::default()
        }));
        status
    }

    pub(crate) fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("{} \"{name}\" is forbidden: {why}", kind.qualified_resource());
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(kind, name)
    }

    /// An upgrade to a protocol that is not spoken here; kubectl then falls back to the next one.
    pub(crate) fn forbidden_protocol(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// A node channel opened by someone who is no node.
    pub(crate) fn not_a_node(user: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", format!("User \"{user}\" is not a node"))
    }

    /// A refusal by authorization, with upstream's sentence already made.
    pub(crate) fn not_allowed(message: String, details: Details) -> Self {
        let mut status = Self::new(StatusCode::FORBIDDEN, "Forbidden", message);
        status.details = Some(Box::new(details));
        status
    }

    pub(crate) fn namespace_terminating(kind: &Kind, name: &str, namespace: &str) -> Self {
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        Self::forbidden(kind, name, &why).with_cause(
            "NamespaceTerminating",
            &format!("namespace {namespace} is being terminated"),
            "metadata.namespace",
        )
    }

    pub(crate) fn invalid(kind: &Kind, name: &str, errors: &[FieldError]) -> Self {
        Self::invalid_named(&kind.qualified_kind(), kind.group, kind.kind, name, errors)
    }

    /// A patch that cannot be applied to this object.
    pub(crate) fn unprocessable(kind: &Kind, name: &str, why: String) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", why).about(kind, name)
    }

    /// An invalid option of the request itself, such as `CreateOptions`.
    pub(crate) fn invalid_options(options: &str, errors: &[FieldError]) -> Self {
        let named = format!("{options}.meta.k8s.io");
        Self::invalid_named(&named, "meta.k8s.io", options, "", errors)
    }

    pub(crate) fn invalid_named(
        title: &str,
        group: &str,
        kind: &str,
        name: &str,
        errors: &[FieldError],
    ) -> Self {
        let texts: Vec<_> =
            errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect();
        let list = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{title} \"{name}\" is invalid: {list}");
        let mut status = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
        let causes = errors.iter().map(cause).collect();
        let (name, group, kind) = (name.to_owned(), group.to_owned(), kind.to_owned());
        status.details = Some(Box::new(Details { name, group, kind, causes, retry_after_seconds: 0 }));
        status
    }

    pub(crate) fn method_not_allowed() -> Self {
        let mut status = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        );
        status.details = Some(Box::default());
        status
    }

    pub(crate) fn not_acceptable(accepted: &str) -> Self {
        let message = format!("only the following media types are accepted: {accepted}");
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    pub(crate) fn unsupported_media_type(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    pub(crate) fn too_large_resource_version(requested: i64, current: i64) -> Self {
        let message = format!("Timeout: Too large resource version: {requested}, current: {current}");
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
            .with_cause("ResourceVersionTooLarge", "Too large resource version", "")
            .retry_after(1)
    }

    pub(crate) fn too_many_requests() -> Self {
        let message = "the server has received too many requests and has asked us to try again later";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message).retry_after(1)
    }

    pub(crate) fn timeout() -> Self {
        Self::new(
            StatusCode::GATEWAY_TIMEOUT,
            "Timeout",
            "request did not complete within the allotted timeout",
        )
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message).retry_after(1)
    }

    /// The node that must serve this cannot be reached from this server.
    pub(crate) fn bad_gateway(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "InternalError", message)
    }

    pub(crate) fn internal(message: impl std::fmt::Display) -> Self {
        let message = format!("Internal error occurred: {message}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    pub(crate) fn not_implemented(what: &str) -> Self {
        let message = format!("{what} is not implemented by this server");
        Self::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message)
    }

    /// The status of a code that another component chose, such as a node agent.
    pub(crate) fn from_code(code: u16, message: String) -> Self {
        let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let reason = match code {
            StatusCode::BAD_REQUEST => "BadRequest",
            StatusCode::NOT_FOUND => "NotFound",
            StatusCode::FORBIDDEN => "Forbidden",
            StatusCode::CONFLICT => "Conflict",
            StatusCode::NOT_IMPLEMENTED => "NotImplemented",
            _ => "InternalError",
        };
        Self::new(code, reason, message)
    }

    /// The answer to a storage failure about one object.
    pub(crate) fn from_storage(error: StorageError, kind: &Kind, name: &str) -> Self {
        match error {
            StorageError::Exists => Self::already_exists(kind, name),
            StorageError::Modified => Self::modified(kind, name),
            StorageError::FencedOut { lock, epoch } => {
                let why = format!("epoch {epoch} of lock {lock:?} is over");
                Self::conflict(kind, name, &why).with_cause(FENCED_OUT, &why, "")
            }
            StorageError::NamespaceChanged => Self::conflict(kind, name, "its namespace changed meanwhile"),
            StorageError::AddressTaken(address) => {
                Self::conflict(kind, name, &format!("{address} was allocated meanwhile"))
            }
            StorageError::NodeChanged => {
                Self::conflict(kind, name, "the node's allocation changed meanwhile")
            }
            StorageError::Repeated => {
                Self::conflict(kind, name, "a request with this idempotency key ran meanwhile")
            }
            StorageError::Corrupt { key, reason } => {
                Self::internal(format!("stored object {key} cannot be read: {reason}"))
            }
            StorageError::Kv(error) => Self::from(error),
        }
    }

    /// Says whether a cause has this reason.
    pub(crate) fn has_cause(&self, reason: &str) -> bool {
        self.details.iter().any(|details| details.causes.iter().any(|cause| cause.reason == reason))
    }

    /// Returns the JSON body.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code.as_u16(),
        });
        if let Some(body) = body.as_object_mut() {
            if !self.reason.is_empty() {
                body.insert("reason".to_owned(), self.reason.into());
            }
            if let Some(details) = &self.details {
                body.insert("details".to_owned(), details.to_json());
            }
        }
        body
    }
}

impl Details {
    fn to_json(&self) -> Value {
        let mut body = Map::new();
        for (field, value) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind)] {
            if !value.is_empty() {
                body.insert(field.to_owned(), value.as_str().into());
            }
        }
        if !self.causes.is_empty() {
            body.insert("causes".to_owned(), self.causes.iter().map(Cause::to_json).collect());
        }
        if self.retry_after_seconds > 0 {
            body.insert("retryAfterSeconds".to_owned(), self.retry_after_seconds.into());
        }
        body.into()
    }
}

impl Cause {
    fn to_json(&self) -> Value {
        let mut body = Map::new();
        for (field, value) in [("reason", &self.reason), ("message", &self.message), ("field", &self.field)] {
            if !value.is_empty() {
                body.insert(field.to_owned(), value.as_str().into());
            }
        }
        body.into()
    }
}

impl From<KvError> for Status {
    fn from(error: KvError) -> Self {
        match error {
            KvError::Compacted { requested, compacted } => {
                Self::expired(format!("too old resource version: {requested} ({compacted})"))
            }
            KvError::FutureRevision { requested, current } => {
                Self::too_large_resource_version(requested.0, current.0)
            }
            KvError::RequestTooLarge => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                "Request entity too large: the store refused the object's size",
            ),
            KvError::TooManyRequests | KvError::ReadTooLarge { .. } | KvError::ReadsBusy => {
                Self::too_many_requests()
            }
            KvError::OutcomeUnknown => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "Timeout",
                "the outcome of the write is unknown; it may have happened",
            )
            .with_cause("OutcomeUnknown", "the write was proposed and not answered in time", ""),
            KvError::NoLeader | KvError::Stopped | KvError::NoSpace => {
                Self::unavailable(format!("the store cannot serve this now: {error}"))
            }
            KvError::LeaseNotFound
            | KvError::LeaseExists
            | KvError::LeaseTtlTooLarge
            | KvError::EmptyKey
            | KvError::KeyNotFound
            | KvError::ValueProvided
            | KvError::LeaseProvided
            | KvError::TooManyOps
            | KvError::DuplicateKey
            | KvError::NotCapable
            | KvError::DowngradeInProgress
            | KvError::Auth(_)
            | KvError::Corrupt => Self::internal(error),
        }
    }
}

fn cause(error: &FieldError) -> Cause {
    let reason = error.reason.as_str();
    Cause { reason: reason.to_owned(), message: error.message.clone(), field: error.field.clone() }
}
