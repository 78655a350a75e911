//! One call: from the body to a gRPC request, through the services in this process, and back.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::uri::PathAndQuery;
use prost_reflect::{MessageDescriptor, MethodDescriptor};
use serde_json::json;
use tonic::client::Grpc;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::{Status, Streaming};

use super::codec::BytesCodec;
use super::json;
use crate::grpc::status;
use crate::reads::{self, ReadPermit};

/// Headers with this prefix become metadata without it.
const METADATA_PREFIX: &str = "grpc-metadata-";
/// Metadata that etcd's clients send their token in.
const TOKEN: &str = "token";

/// One method of the services.
pub(super) struct Gateway {
    services: Router,
    path: PathAndQuery,
    input: MessageDescriptor,
    output: MessageDescriptor,
    is_streaming: bool,
    body_bytes_max: usize,
}

impl Gateway {
    /// `message_bytes` is the largest message that the services take.
    pub(super) fn new(services: Router, method: MethodDescriptor, message_bytes: usize) -> Self {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        Self {
            services,
            path: PathAndQuery::try_from(path).expect("names of protobuf need no escapes"),
            input: method.input(),
            output: method.output(),
            is_streaming: method.is_server_streaming(),
            // Base64 makes a message a third longer; names and escapes come on top.
            body_bytes_max: 2 * message_bytes,
        }
    }

    pub(super) async fn call(self: Arc<Self>, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let outcome = match axum::body::to_bytes(body, self.body_bytes_max).await {
            Ok(body) if self.is_streaming => self.stream(parts, &body).await,
            Ok(body) => self.unary(parts, &body).await,
            Err(error) => Err(status::not_json(&error)),
        };
        outcome.unwrap_or_else(|status| refused(&status))
    }

    fn client(&self) -> Grpc<Router> {
        Grpc::new(self.services.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }

    async fn unary(&self, parts: Parts, body: &[u8]) -> Result<Response, Status> {
        let message = json::read(&self.input, body)?.into_iter().next().unwrap_or_default();
        let mut client = self.client();
        ready(&mut client).await;
        let answer = client.unary(request(parts, message), self.path.clone(), BytesCodec).await?;
        let permit = answer.extensions().get::<Arc<ReadPermit>>().cloned();
        let text = json::write(&self.output, &answer.into_inner())?;
        let mut response = ([(CONTENT_TYPE, "application/json")], text).into_response();
        reads::attach(response.extensions_mut(), permit);
        Ok(response)
    }

    /// Answers one line for each message, until the service or the caller ends it.
    async fn stream(&self, parts: Parts, body: &[u8]) -> Result<Response, Status> {
        let messages = futures::stream::iter(json::read(&self.input, body)?);
        let mut client = self.client();
        ready(&mut client).await;
        let answers = client.streaming(request(parts, messages), self.path.clone(), BytesCodec).await?;
        let lines = lines(answers.into_inner(), self.output.clone());
        Ok(([(CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response())
    }
}

/// Services in the same process are always ready.
async fn ready(client: &mut Grpc<Router>) {
    let Ok(()) = client.ready().await;
}

fn lines(
    answers: Streaming<Bytes>,
    kind: MessageDescriptor,
) -> impl futures::Stream<Item = Result<String, Infallible>> {
    answers.map(move |answer| {
        let line = match answer.and_then(|answer| json::write(&kind, &answer)) {
            Ok(result) => format!("{{\"result\":{result}}}\n"),
            Err(status) => format!("{}\n", json!({ "error": described(&status) })),
        };
        Ok(line)
    })
}

/// Who calls and how they came in goes along with what they ask.
fn request<T>(parts: Parts, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    *request.metadata_mut() = metadata(&parts);
    *request.extensions_mut() = parts.extensions;
    request
}

fn metadata(parts: &Parts) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    let mut add = |name: &str, value: &http::HeaderValue| {
        let key = AsciiMetadataKey::from_bytes(name.as_bytes());
        let value = AsciiMetadataValue::try_from(value.as_bytes());
        // What gRPC cannot carry is not for it.
        if let (Ok(key), Ok(value)) = (key, value) {
            metadata.insert(key, value);
        }
    };
    if let Some(token) = parts.headers.get(AUTHORIZATION) {
        add(AUTHORIZATION.as_str(), token);
        add(TOKEN, token);
    }
    for (name, value) in &parts.headers {
        if let Some(name) = name.as_str().strip_prefix(METADATA_PREFIX) {
            add(name, value);
        }
    }
    metadata
}

fn described(status: &Status) -> serde_json::Value {
    json!({ "error": status.message(), "code": i32::from(status.code()), "message": status.message() })
}

fn refused(status: &Status) -> Response {
    let text = described(status).to_string();
    (status::http_status(status.code()), [(CONTENT_TYPE, "application/json")], text).into_response()
}

pub(super) async fn not_found() -> Response {
    refused(&Status::not_found("Not Found"))
}

/// Only POST calls a method.
pub(super) async fn wrong_method() -> Response {
    refused(&Status::unimplemented("Method Not Allowed"))
}
