//! Everything that is not a resource: discovery, OpenAPI, version, health, metrics, public keys, and the small kinds
//! that are posted but never stored.

use axum::body::Body;
use http::header::{CONTENT_TYPE, ETAG, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::negotiate::{Format, wants_aggregated};
use super::query::Query;
use super::request_info::ResourcePath;
use super::{Rest, body, openapi, respond};
use crate::authn::User;
use crate::authz::{self, Attributes, Decision};
use crate::discovery::{self, AggregatedVersion, Root};
use crate::endpoints::status::Status;
use crate::object;
use crate::registry::catalog;

const AGGREGATED_TYPE: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

impl Rest {
    pub(super) async fn document(&self, parts: &Parts, query: &Query) -> Result<Response<Body>, Status> {
        let path = parts.uri.path();
        if let Some(health) = self.health(path, query).await {
            return Ok(health);
        }
        let known = self.known_document(parts, query, path);
        match (known, &parts.method) {
            (None, _) => Ok(respond::text(StatusCode::NOT_FOUND, "404 page not found\n")),
            (Some(response), &Method::GET) => Ok(response),
            (Some(_), _) => Err(Status::method_not_allowed()),
        }
    }

    fn known_document(&self, parts: &Parts, query: &Query, path: &str) -> Option<Response<Body>> {
        let accept = respond::header(&parts.headers, "accept");
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let document = match segments.as_slice() {
            ["api"] => match wants_aggregated(accept) {
                Some(_) => return Some(aggregated(parts, Root::Core)),
                None => discovery::api_versions(&self.advertised),
            },
            ["apis"] => match wants_aggregated(accept) {
                Some(_) => return Some(aggregated(parts, Root::Groups)),
                None => discovery::group_list(),
            },
            ["api", version] => discovery::resource_list("", version)?,
            ["apis", group] => discovery::group(group)?,
            ["apis", group, version] => discovery::resource_list(group, version)?,
            ["version"] => version(),
            ["openid", "v1", "jwks"] => {
                let keys = serde_json::to_string(self.api.tokens.jwks()).ok()?;
                return Some(respond::with_type(StatusCode::OK, "application/jwk-set+json", keys));
            }
            ["openapi", rest @ ..] => return openapi::answer(parts, query, rest),
            [] => {
                json!({"paths": ["/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]})
            }
            _ => return None,
        };
        Some(respond::ok(&document, Format::Json))
    }

    pub(super) async fn answer_virtual(
        &self,
        wanted: VirtualRequest,
        parts: &Parts,
        content: Body,
    ) -> Result<Response<Body>, Status> {
        let bytes = body::to_json(&parts.headers, body::read(content).await?)?;
        let mut answer = body::decode_plain(&bytes)?;
        let status = match wanted.kind {
            "SelfSubjectReview" => json!({"userInfo": user_info(&wanted.user)}),
            "SelfSubjectAccessReview" => self.access_review(&wanted.user, &answer).await,
            "SubjectAccessReview" => {
                let subject = User {
                    name: object::str_at(&answer, &["spec", "user"]).to_owned(),
                    groups: object::strings(object::at(&answer, &["spec", "groups"])),
                    uid: String::new(),
                };
                self.access_review(&subject, &answer).await
            }
            "TokenReview" => self.token_review(&answer).await,
            other => return Err(Status::not_implemented(other)),
        };
        answer.insert("kind".to_owned(), wanted.kind.into());
        answer.insert("apiVersion".to_owned(), wanted.api_version.into());
        answer.entry("metadata").or_insert_with(|| json!({"creationTimestamp": null}));
        answer.insert("status".to_owned(), status);
        Ok(respond::body(StatusCode::CREATED, &Value::Object(answer), Format::Json))
    }

    async fn access_review(&self, subject: &User, review: &crate::registry::Object) -> Value {
        let text = |path: &[&str]| object::str_at(review, path).to_owned();
        let resource = |field: &str| text(&["spec", "resourceAttributes", field]);
        let attributes =
            if object::at(review, &["spec", "nonResourceAttributes"]).is_some_and(Value::is_object) {
                Attributes {
                    verb: text(&["spec", "nonResourceAttributes", "verb"]),
                    path: text(&["spec", "nonResourceAttributes", "path"]),
                    ..Attributes::default()
                }
            } else {
                Attributes {
                    verb: resource("verb"),
                    group: resource("group"),
                    resource: resource("resource"),
                    subresource: resource("subresource"),
                    namespace: resource("namespace"),
                    name: resource("name"),
                    ..Attributes::default()
                }
            };
        let allowed = match authz::decide(subject, &attributes) {
            Decision::Allow => true,
            Decision::Deny => false,
            Decision::IfPodReferences { .. } => self.api.authorize(subject, &attributes).await.is_ok(),
        };
        json!({"allowed": allowed})
    }

    async fn token_review(&self, review: &crate::registry::Object) -> Value {
        let token = format!("Bearer {}", object::str_at(review, &["spec", "token"]));
        match self.api.authenticate(None, Some(&token)).await {
            Ok(user) if user.name != crate::authn::ANONYMOUS => {
                json!({"authenticated": true, "user": user_info(&user)})
            }
            Ok(_) => json!({"authenticated": false, "user": {}}),
            Err(status) => json!({"authenticated": false, "user": {}, "error": status.message}),
        }
    }
}

/// Recognises kinds that are only posted; `None` for every other resource.
pub(super) fn virtual_kind(
    user: &User,
    path: &ResourcePath,
    method: &Method,
) -> Option<Result<VirtualRequest, Status>> {
    let kind = catalog::virtual_kinds().iter().find(|kind| {
        kind.group == path.group && kind.version == path.version && kind.resource == path.resource
    })?;
    if method != Method::POST {
        return Some(Err(Status::method_not_allowed()));
    }
    let api_version = format!("{}/{}", kind.group, kind.version);
    Some(Ok(VirtualRequest { kind: kind.kind, api_version, user: user.clone() }))
}

/// A posted kind that is answered at once.
pub(super) struct VirtualRequest {
    kind: &'static str,
    api_version: String,
    user: User,
}

fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if let (Some(info), false) = (info.as_object_mut(), user.uid.is_empty()) {
        info.insert("uid".to_owned(), user.uid.as_str().into());
    }
    info
}

fn aggregated(parts: &Parts, root: Root) -> Response<Body> {
    let document = discovery::aggregated(AggregatedVersion::V2, root);
    let tag = format!("\"{}\"", discovery::document_hash(&document));
    let mut response = if respond::header(&parts.headers, "if-none-match") == tag {
        let mut unchanged = Response::new(Body::empty());
        *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
        unchanged
    } else {
        respond::ok(&document, Format::Json)
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(AGGREGATED_TYPE));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// Returns `/version`: the Kubernetes version whose API this is.
pub(crate) fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": concat!("v1.36.0+keelson.", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "rustc", "platform": "linux/amd64",
    })
}
