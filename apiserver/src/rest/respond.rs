//! Responses: bodies in the negotiated format, and the headers that every one carries.

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WARNING};
use http::{HeaderMap, Response, StatusCode};
use serde_json::Value;

use super::negotiate::Format;
use crate::endpoints::status::Status;

/// Returns a header as text, empty when absent.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Returns a response with a body in `format`.
pub(super) fn body(code: StatusCode, value: &Value, format: Format) -> Response<Body> {
    let text = match format {
        Format::Json => format!("{value}\n"),
        Format::Yaml => serde_saphyr::to_string(value).unwrap_or_else(|error| format!("# {error}\n")),
    };
    with_type(code, format.media_type(), text)
}

pub(super) fn ok(value: &Value, format: Format) -> Response<Body> {
    body(StatusCode::OK, value, format)
}

/// Returns a plain-text response.
pub(super) fn text(code: StatusCode, text: impl Into<String>) -> Response<Body> {
    with_type(code, "text/plain; charset=utf-8", text.into())
}

pub(super) fn with_type(
    code: StatusCode,
    media_type: &'static str,
    content: impl Into<Body>,
) -> Response<Body> {
    let mut response = Response::new(content.into());
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Returns the response of a failed request.
pub(crate) fn failure(status: &Status, format: Format) -> Response<Body> {
    let mut response = body(status.code, &status.to_json(), format);
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if seconds > 0 {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Adds warnings that kubectl prints.
pub(super) fn with_warnings(mut response: Response<Body>, warnings: &[String]) -> Response<Body> {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
    response
}
