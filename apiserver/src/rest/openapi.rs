//! `/openapi/v2` and `/openapi/v3`, with hashes and tags, so that clients fetch a document once.

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, LOCATION};
use http::request::Parts;
use http::{Response, StatusCode};

use super::negotiate::Format;
use super::query::Query;
use super::respond;
use crate::openapi::{self, Document, V2_PROTOBUF_CONTENT_TYPE};

/// Answers `/openapi/<segments>`; `None` when there is no such document.
pub(super) fn answer(parts: &Parts, query: &Query, segments: &[&str]) -> Option<Response<Body>> {
    let accept = respond::header(&parts.headers, "accept");
    match segments {
        ["v2"] if accepts_protobuf(accept) => {
            Some(document(parts, query, openapi::v2_protobuf(), V2_PROTOBUF_CONTENT_TYPE))
        }
        ["v2"] if accepts_json(accept) => {
            Some(document(parts, query, openapi::v2_json(), "application/json"))
        }
        ["v3"] => Some(respond::ok(&openapi::v3_index(), Format::Json)),
        ["v3", path @ ..] => {
            let found = openapi::v3_document(&path.join("/"))?;
            if accepts_json(accept) {
                return Some(hashed(parts, query, found));
            }
            Some(not_acceptable())
        }
        ["v2"] => Some(not_acceptable()),
        _ => None,
    }
}

/// Protobuf of v2 comes first when the client names it at all: kubectl asks for nothing else.
fn accepts_protobuf(accept: &str) -> bool {
    accept.contains("application/com.github.proto-openapi.spec.v2")
}

fn accepts_json(accept: &str) -> bool {
    accept.is_empty()
        || ["application/json", "*/*", "application/*"].iter().any(|known| accept.contains(known))
}

fn not_acceptable() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_ACCEPTABLE;
    response
}

/// A wrong hash is redirected to the right one; a right one may be kept for ever.
fn hashed(parts: &Parts, query: &Query, found: &'static Document) -> Response<Body> {
    let wanted = query.get("hash");
    if !wanted.is_empty() && wanted != found.hash {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        let location = format!("{}?hash={}", parts.uri.path(), found.hash);
        if let Ok(location) = HeaderValue::from_str(&location) {
            response.headers_mut().insert(LOCATION, location);
        }
        return response;
    }
    document(parts, query, found, "application/json")
}

fn document(
    parts: &Parts,
    query: &Query,
    found: &'static Document,
    media_type: &'static str,
) -> Response<Body> {
    let tag = format!("\"{}\"", found.hash);
    let unchanged = respond::header(&parts.headers, "if-none-match") == tag;
    let body = if unchanged { Body::empty() } else { Body::from(found.body.as_slice()) };
    let mut response = Response::new(body);
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let caching = if query.get("hash").is_empty() { "no-cache, private" } else { "public, immutable" };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    response
}
