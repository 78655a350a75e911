//! Why a call failed, in one enum, and how it is read from a gRPC status.
//!
//! The server sends `metav1.Status` in the trailer `keelson-status-bin`; an answer without it never passed the API
//! handlers, so only connection trouble is assumed of it.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status as ApiStatus;
use tonic::Code;

/// Trailer that carries `metav1.Status` as JSON.
pub const STATUS_TRAILER: &str = "keelson-status-bin";
/// Cause of a conflict that means "another leader has taken over".
pub const CAUSE_FENCED_OUT: &str = "FencedOut";
/// Cause of a failed write whose fate the server does not know.
pub const CAUSE_OUTCOME_UNKNOWN: &str = "OutcomeUnknown";

/// One cause in a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    pub reason: String,
    pub field: String,
    pub message: String,
}

/// What the server said of a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    pub message: String,
    pub causes: Vec<Cause>,
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// Returns a failure that is only a message.
    #[must_use]
    pub fn text(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// Says whether one of the causes has this reason.
    #[must_use]
    pub fn has_cause(&self, reason: &str) -> bool {
        self.causes.iter().any(|cause| cause.reason == reason)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

/// Why a call to the API failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    #[error("not found: {0}")]
    NotFound(Failure),
    #[error("already exists: {0}")]
    AlreadyExists(Failure),
    /// A precondition or the object's revision did not match: read again.
    #[error("conflict: {0}")]
    Conflict(Failure),
    /// Another leader holds the lock: stop acting.
    #[error("fenced out: {0}")]
    FencedOut(Failure),
    #[error("invalid: {0}")]
    Invalid(Failure),
    #[error("forbidden: {0}")]
    Forbidden(Failure),
    #[error("unauthorized: {0}")]
    Unauthorized(Failure),
    /// The revision or continue token asked for is gone: list again.
    #[error("expired: {0}")]
    Expired(Failure),
    #[error("too many requests: {0}")]
    TooManyRequests(Failure),
    /// Nothing was applied; retry later.
    #[error("unavailable: {0}")]
    Unavailable(Failure),
    /// The write may or may not have been applied: read before acting again.
    #[error("outcome unknown: {0}")]
    OutcomeUnknown(Failure),
    #[error("not implemented: {0}")]
    Unimplemented(Failure),
    /// The server reports a bug of its own.
    #[error("internal error: {0}")]
    Internal(Failure),
    /// Bytes that are no object of the expected kind.
    #[error("malformed object: {0}")]
    Malformed(Failure),
    /// The client was built from unusable settings.
    #[error("client configuration: {0}")]
    Config(Failure),
}

impl ApiError {
    /// Says whether the object does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }

    /// Says whether the object exists already.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::AlreadyExists(_))
    }

    /// Says whether a precondition failed.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }

    /// Says whether another leader has taken over.
    #[must_use]
    pub fn is_fenced_out(&self) -> bool {
        matches!(self, Self::FencedOut(_))
    }

    /// Says whether history or a continue token is gone.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        matches!(self, Self::Expired(_))
    }

    /// Says whether the same call may be sent again without harm: nothing was applied.
    #[must_use]
    pub fn is_definitely_not_applied(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::TooManyRequests(_))
    }

    /// Says whether a write's fate is not known.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::OutcomeUnknown(_))
    }

    /// Returns what the server said.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        match self {
            Self::NotFound(failure)
            | Self::AlreadyExists(failure)
            | Self::Conflict(failure)
            | Self::FencedOut(failure)
            | Self::Invalid(failure)
            | Self::Forbidden(failure)
            | Self::Unauthorized(failure)
            | Self::Expired(failure)
            | Self::TooManyRequests(failure)
            | Self::Unavailable(failure)
            | Self::OutcomeUnknown(failure)
            | Self::Unimplemented(failure)
            | Self::Internal(failure)
            | Self::Malformed(failure)
            | Self::Config(failure) => failure,
        }
    }
}

/// Whether a call changes state; decides what a lost answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Read,
    Write,
}

/// Reads a gRPC status.
pub(crate) fn from_status(status: &tonic::Status, effect: Effect) -> ApiError {
    let trailer = status.metadata().get_bin(STATUS_TRAILER).and_then(|value| value.to_bytes().ok());
    match trailer.and_then(|bytes| serde_json::from_slice::<ApiStatus>(&bytes).ok()) {
        Some(api_status) => from_api_status(&api_status, effect),
        None => from_transport(status, effect),
    }
}

fn from_api_status(status: &ApiStatus, effect: Effect) -> ApiError {
    let details = status.details.clone().unwrap_or_default();
    let causes = details.causes.unwrap_or_default().into_iter().map(|cause| Cause {
        reason: cause.reason.unwrap_or_default(),
        field: cause.field.unwrap_or_default(),
        message: cause.message.unwrap_or_default(),
    });
    let failure = Failure {
        message: status.message.clone().unwrap_or_default(),
        causes: causes.collect(),
        retry_after: details
            .retry_after_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs),
    };
    if failure.has_cause(CAUSE_OUTCOME_UNKNOWN) {
        return lost_answer(failure, effect);
    }
    match (status.reason.as_deref().unwrap_or_default(), status.code.unwrap_or(0)) {
        ("NotFound", _) => ApiError::NotFound(failure),
        ("AlreadyExists", _) => ApiError::AlreadyExists(failure),
        ("Conflict", _) if failure.has_cause(CAUSE_FENCED_OUT) => ApiError::FencedOut(failure),
        ("Conflict", _) => ApiError::Conflict(failure),
        ("Invalid" | "BadRequest", _) => ApiError::Invalid(failure),
        ("Forbidden", _) => ApiError::Forbidden(failure),
        ("Unauthorized", _) => ApiError::Unauthorized(failure),
        ("Expired" | "Gone", _) => ApiError::Expired(failure),
        ("TooManyRequests", _) => ApiError::TooManyRequests(failure),
        ("ServiceUnavailable", _) => ApiError::Unavailable(failure),
        ("Timeout" | "ServerTimeout", _) => lost_answer(failure, effect),
        (_, 501) => ApiError::Unimplemented(failure),
        (_, 404 | 405) => ApiError::NotFound(failure),
        (_, 409) => ApiError::Conflict(failure),
        (_, 410) => ApiError::Expired(failure),
        (_, 429) => ApiError::TooManyRequests(failure),
        (_, 503) => ApiError::Unavailable(failure),
        (_, 400..=499) => ApiError::Invalid(failure),
        _ => ApiError::Internal(failure),
    }
}

fn from_transport(status: &tonic::Status, effect: Effect) -> ApiError {
    let failure = Failure::text(format!("{:?}: {}", status.code(), chain(status)));
    if never_sent(status) {
        return ApiError::Unavailable(failure);
    }
    match status.code() {
        Code::Unimplemented => ApiError::Unimplemented(failure),
        Code::Unauthenticated => ApiError::Unauthorized(failure),
        Code::PermissionDenied => ApiError::Forbidden(failure),
        Code::InvalidArgument => ApiError::Invalid(failure),
        Code::ResourceExhausted => ApiError::TooManyRequests(failure),
        Code::OutOfRange => ApiError::Expired(failure),
        Code::NotFound => ApiError::NotFound(failure),
        Code::AlreadyExists => ApiError::AlreadyExists(failure),
        Code::Aborted | Code::FailedPrecondition => ApiError::Conflict(failure),
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Unknown | Code::Internal => {
            lost_answer(failure, effect)
        }
        Code::Ok | Code::DataLoss => ApiError::Internal(failure),
    }
}

/// A read without an answer is merely unavailable; a write without one may have happened.
pub(crate) fn lost_answer(failure: Failure, effect: Effect) -> ApiError {
    match effect {
        Effect::Read => ApiError::Unavailable(failure),
        Effect::Write => ApiError::OutcomeUnknown(failure),
    }
}

/// Says whether no byte of the request left this machine: the connection itself failed.
fn never_sent(status: &tonic::Status) -> bool {
    causes(status).any(|error| error.is::<tonic::ConnectError>())
}

fn chain(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    for cause in causes(status).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

fn causes(status: &tonic::Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(status.source(), |&error| error.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_trailer(json: serde_json::Value) -> tonic::Status {
        let mut status = tonic::Status::aborted("x");
        let value = tonic::metadata::MetadataValue::from_bytes(json.to_string().as_bytes());
        status.metadata_mut().insert_bin(STATUS_TRAILER, value);
        status
    }

    #[test]
    fn conflict_with_fence_cause_is_fenced_out() {
        let status = with_trailer(serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "code": 409, "reason": "Conflict", "message": "epoch",
            "details": {"causes": [{"reason": "FencedOut", "message": "epoch 7"}]}
        }));
        assert!(from_status(&status, Effect::Write).is_fenced_out());
    }

    #[test]
    fn timeout_of_a_write_is_outcome_unknown_and_of_a_read_is_not() {
        let status = with_trailer(serde_json::json!({"code": 504, "reason": "Timeout", "message": "late"}));
        assert!(from_status(&status, Effect::Write).is_outcome_unknown());
        assert!(from_status(&status, Effect::Read).is_definitely_not_applied());
    }

    #[test]
    fn lost_connection_of_a_write_is_outcome_unknown() {
        let error = from_status(&tonic::Status::unavailable("broken pipe"), Effect::Write);
        assert!(error.is_outcome_unknown(), "{error}");
    }

    #[test]
    fn unavailable_from_the_server_means_not_applied() {
        let status = with_trailer(serde_json::json!({"code": 503, "reason": "ServiceUnavailable"}));
        assert!(from_status(&status, Effect::Write).is_definitely_not_applied());
    }
}
