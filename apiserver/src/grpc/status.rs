//! How a `metav1.Status` travels as a gRPC status.

use http::StatusCode;
use tonic::Code;
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::endpoints::status::Status;

/// Trailer that carries the `metav1.Status` as JSON.
const STATUS_TRAILER: &str = "keelson-status-bin";

/// Converts a failure.
pub(super) fn to_grpc(status: &Status) -> tonic::Status {
    let mut trailers = MetadataMap::new();
    trailers.insert_bin(STATUS_TRAILER, MetadataValue::from_bytes(status.to_json().to_string().as_bytes()));
    tonic::Status::with_metadata(code(status), status.message.clone(), trailers)
}

fn code(status: &Status) -> Code {
    match (status.reason, status.code) {
        ("NotFound", _) => Code::NotFound,
        ("AlreadyExists", _) => Code::AlreadyExists,
        ("Conflict", _) => Code::Aborted,
        ("Expired", _) => Code::OutOfRange,
        ("Forbidden", _) => Code::PermissionDenied,
        ("Unauthorized", _) => Code::Unauthenticated,
        (_, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::PAYLOAD_TOO_LARGE) => {
            Code::InvalidArgument
        }
        (_, StatusCode::TOO_MANY_REQUESTS) => Code::ResourceExhausted,
        (_, StatusCode::GATEWAY_TIMEOUT) => Code::DeadlineExceeded,
        (_, StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY) => Code::Unavailable,
        (_, StatusCode::NOT_IMPLEMENTED | StatusCode::METHOD_NOT_ALLOWED) => Code::Unimplemented,
        _ => Code::Internal,
    }
}
