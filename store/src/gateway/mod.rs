//! The JSON gateway: every method of the gRPC services as a POST under `/v3`, for clients without gRPC.
//!
//! - [`routes`]: which path is which method; pure.
//! - [`schema`]: the services' messages with the field names of etcd's JSON; pure.
//! - [`json`]: messages between JSON and protobuf; pure.
//! - [`codec`]: gRPC messages as the bytes they are.
//! - [`call`]: one call, from the body to the answer.
//!
//! It is a client of the services in the same process: a call passes everything that a gRPC call passes. It does **not** stream
//! requests: of a body that goes on for ever nothing is answered.

mod call;
mod codec;
mod json;
mod routes;
mod schema;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::{any, post};

use call::Gateway;

/// Returns the gateway to `services`, which take messages of up to `message_bytes`.
pub(crate) fn router(services: &Router, message_bytes: usize) -> Router {
    let pool = schema::pool();
    let mut router = Router::new();
    for (path, service, method) in routes::ROUTES {
        // What a later version of the services has is left out here, not refused at start.
        let Some(method) = schema::method(&pool, service, method) else { continue };
        let gateway = Arc::new(Gateway::new(services.clone(), method, message_bytes));
        let handler = move |request: Request| Arc::clone(&gateway).call(request);
        router = router.route(path, post(handler).fallback(call::wrong_method));
    }
    router.route("/v3/{*path}", any(call::not_found))
}
