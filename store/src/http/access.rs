//! Which pages and names HTTP is answered for; gRPC is not asked, as in etcd.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE,
    HOST, ORIGIN,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

const ANY: &str = "*";

/// Names that are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    All,
    These(BTreeSet<String>),
}

impl Allowed {
    /// Reads a list of names; `*` stands for all.
    #[must_use]
    pub fn read(names: &[String]) -> Self {
        let names: BTreeSet<String> =
            names.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        if names.contains(ANY) { Self::All } else { Self::These(names) }
    }

    fn has(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(names) => names.contains(name),
        }
    }
}

/// Whom HTTP is answered.
#[derive(Clone, Debug)]
pub struct Access {
    /// Origins whose pages may read answers.
    pub origins: Allowed,
    /// Names that this member may be called, where no certificate says it. A page that makes its own name lead here is not one.
    pub hosts: Allowed,
}

impl Default for Access {
    /// Everybody, as in etcd.
    fn default() -> Self {
        Self { origins: Allowed::All, hosts: Allowed::All }
    }
}

/// An [`Access`] on a port.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) access: Arc<Access>,
    pub(crate) is_secure: bool,
}

/// Answers what is not allowed, and what pages ask before they call; tells pages that they may read an answer.
pub(crate) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    if is_grpc(request.headers()) {
        return next.run(request).await;
    }
    let host = host(&request);
    if !guard.is_secure && !guard.access.hosts.has(&host) {
        return (StatusCode::MISDIRECTED_REQUEST, wrong_host(&host)).into_response();
    }
    let origin = allowed_origin(&guard.access.origins, request.headers());
    let mut response = match *request.method() {
        Method::OPTIONS => StatusCode::OK.into_response(),
        _ => next.run(request).await,
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let methods = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        let allowed = HeaderValue::from_static("accept, content-type, authorization");
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    response
}

fn allowed_origin(origins: &Allowed, headers: &HeaderMap) -> Option<HeaderValue> {
    if *origins == Allowed::All {
        return Some(HeaderValue::from_static(ANY));
    }
    let origin = headers.get(ORIGIN)?;
    origins.has(origin.to_str().ok()?).then(|| origin.clone())
}

/// Returns the name that was called, without its port.
fn host(request: &Request) -> String {
    let named = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let authority =
        named.or_else(|| request.uri().authority().map(http::uri::Authority::as_str)).unwrap_or_default();
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => authority,
    };
    name.trim_matches(['[', ']']).to_owned()
}

/// etcd's text.
fn wrong_host(host: &str) -> String {
    format!(
        "
etcd received your request, but the Host header was unrecognized.

To fix this, choose one of the following options:
- Enable TLS, then any HTTPS request will be allowed.
- Add the hostname you want to use to the whitelist in settings.
  - e.g. etcd --host-whitelist {host:?}

This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).

"
    )
}

/// Whether a request is a call of gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.starts_with("application/grpc")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(host: &str) -> String {
        super::host(&Request::builder().header(HOST, host).body(axum::body::Body::empty()).unwrap())
    }

    #[test]
    fn the_name_that_was_called_has_no_port() {
        assert_eq!(called("localhost:2379"), "localhost");
        assert_eq!(called("localhost"), "localhost");
        assert_eq!(called("[::1]:2379"), "::1");
    }

    #[test]
    fn a_star_among_names_allows_all() {
        let read =
            |names: &[&str]| Allowed::read(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(read(&["a", "*"]), Allowed::All);
        let some = read(&["a", " b", ""]);
        assert!(some.has("a") && some.has("b") && !some.has("") && !some.has("c"));
    }
}
