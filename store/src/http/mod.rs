//! Plain HTTP beside gRPC on the client port: what a person, a load balancer or a monitoring system asks.
//!
//! - [`access`] says which pages and host names are answered.
//! - [`about`] answers `/version`.
//! - [`checks`] answers `/health`, `/livez`, `/readyz`.
//! - [`report`] holds the text of the last two; pure.
//! - `/metrics` is declared in `metrics.rs`.

mod about;
mod access;
mod checks;
mod report;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

pub(crate) use access::Guard;
pub use access::{Access, Allowed};
use access::{guard, is_grpc};

use crate::grpc::Edge;
use crate::health::Health;
use crate::kv::Consistency;
use crate::metrics::{self, OfMember, Readings};
use crate::mvcc::{KeyRange, Range, RangeEnd};

/// What the answers are made of.
#[derive(Clone)]
pub(crate) struct Plain {
    pub(crate) edge: Edge,
    pub(crate) health: Health,
}

/// Returns `services` with plain HTTP, the JSON of `gateway` among it, beside them.
pub(crate) fn beside(services: Router, gateway: Router, plain: Plain, access: Guard) -> Router {
    let layer = from_fn_with_state(access, guard);
    let about = Router::new().route("/version", get(about::version));
    let plain = gateway.merge(about).merge(paths().with_state(plain));
    services
        .merge(plain.layer(layer.clone()))
        .fallback(unknown.layer(layer.clone()))
        .method_not_allowed_fallback(wrong_method.layer(layer))
}

/// Returns the paths that tell how a member is, alone.
pub(crate) fn observation(plain: Plain) -> Router {
    paths().with_state(plain).fallback(unknown).method_not_allowed_fallback(wrong_method)
}

fn paths() -> Router<Plain> {
    Router::new()
        .route("/health", get(checks::health))
        .route("/livez", get(checks::livez))
        .route("/livez/{check}", get(checks::livez_single))
        .route("/readyz", get(checks::readyz))
        .route("/readyz/{check}", get(checks::readyz_single))
        .route("/metrics", get(measured))
}

async fn measured(State(plain): State<Plain>) -> Response {
    let all = KeyRange { start: Bytes::from_static(b"\0"), end: RangeEnd::Unbounded };
    let counted = Range { count_only: true, ..Range::new(all) };
    let keys = plain.edge.kv.range(counted, Consistency::Serializable).await.ok().map(|found| found.count);
    let member = OfMember {
        status: plain.edge.kv.status(),
        numbers: plain.edge.admin.numbers(),
        counters: plain.edge.admin.counters(),
    };
    let clients = Some(plain.edge.clients.clone());
    let readings = Readings { member, keys, clients, reads: plain.edge.reads.numbers() };
    let text = metrics::render(&readings);
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

/// A method of no service is answered in gRPC, another path in HTTP.
async fn unknown(headers: HeaderMap) -> Response {
    if is_grpc(&headers) {
        return tonic::Status::unimplemented("unknown service or method").into_http::<Body>();
    }
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

async fn wrong_method() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n").into_response()
}
