//! `/version`: what etcd's clients and installers ask before anything else.

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

use crate::grpc::{ETCD_VERSION, STORAGE_VERSION};

pub(super) async fn version() -> Response {
    let text = format!(
        r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{ETCD_VERSION}","storage":"{STORAGE_VERSION}"}}"#
    );
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}
