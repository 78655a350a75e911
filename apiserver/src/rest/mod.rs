//! The REST projection: paths, queries and bodies become calls of the verbs in [`crate::endpoints`], and their
//! results become responses. No rule about objects lives here.

pub(crate) mod body;
pub(crate) mod documents;
pub(crate) mod health;
mod logs;
mod negotiate;
mod openapi;
pub(crate) mod query;
pub(crate) mod request_info;
mod respond;
mod subresources;
mod terminal;
pub(crate) mod verbs;
mod watch;

use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request, Response};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authn::User;
use crate::authz::{self, Attributes, Decision};
use crate::catalog::stored_kind;
use crate::endpoints::status::Status;
use crate::endpoints::{Api, Call};
use crate::metrics::Metrics;
use crate::object;
use crate::registry::table::IncludeObject;
use crate::registry::{Kind, Scope, catalog};
use crate::storage::Stored;
use crate::storage::list::{At, ListQuery};
use negotiate::{Format, View, negotiate};
use query::Query;
use request_info::{RequestInfo, ResourcePath};

/// The REST API on top of the verbs.
#[derive(Clone)]
pub(crate) struct Rest {
    pub(crate) api: Arc<Api>,
    pub(crate) metrics: Arc<Metrics>,
    /// Ends watches and terminals.
    pub(crate) shutdown: CancellationToken,
    /// Owns the tasks of upgraded connections.
    pub(crate) tasks: TaskTracker,
    /// `host:port` as clients reach this server.
    pub(crate) advertised: Arc<str>,
}

/// A request after its head was understood.
pub(crate) struct RestRequest {
    pub(crate) method: Method,
    pub(crate) query: Query,
    pub(crate) format: Format,
    pub(crate) view: View,
    /// When it came, as the API writes times.
    pub(crate) now: String,
    pub(crate) parts: http::request::Parts,
}

/// Returns the response of a request that failed before its format was negotiated.
pub(crate) fn failure(status: &Status) -> Response<Body> {
    respond::failure(status, Format::Json)
}

/// Whether a request may take as long as it likes.
pub(crate) fn is_long_running(request: &Request<Body>) -> bool {
    let RequestInfo::Resource(path) = request_info::parse(request.uri().path()) else { return false };
    let query = Query::parse(request.uri().query().unwrap_or_default());
    query.flag("watch") || matches!(path.subresource.as_str(), "log" | "exec" | "attach" | "portforward")
}

impl Rest {
    /// Answers one request of an authenticated user.
    pub(crate) async fn handle(&self, user: Arc<User>, request: Request<Body>) -> Response<Body> {
        let accept = respond::header(request.headers(), "accept");
        let format = match negotiate(accept, IncludeObject::None) {
            Ok((format, _)) => format,
            Err(_) => Format::Json,
        };
        match self.route(user, request).await {
            Ok(response) => response,
            Err(status) => respond::failure(&status, format),
        }
    }

    async fn route(&self, user: Arc<User>, request: Request<Body>) -> Result<Response<Body>, Status> {
        let (parts, content) = request.into_parts();
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let path = match request_info::parse(parts.uri.path()) {
            RequestInfo::Resource(path) => path,
            RequestInfo::Path => {
                let attributes = Attributes {
                    verb: parts.method.as_str().to_ascii_lowercase(),
                    path: parts.uri.path().to_owned(),
                    ..Attributes::default()
                };
                self.api.authorize(&user, &attributes).await?;
                return self.document(&parts, &query).await;
            }
        };
        let verb = request_info::verb(&parts.method, &path, query.flag("watch"));
        self.api.authorize(&user, &attributes(verb, &path, &query)).await?;
        if let Some(posted) = documents::virtual_kind(&user, &path, &parts.method) {
            return self.answer_virtual(posted?, &parts, content).await;
        }
        let kind =
            catalog::find(&path.group, &path.version, &path.resource).ok_or_else(Status::no_such_resource)?;
        check_scope(kind, &path)?;
        let include = IncludeObject::parse(query.get("includeObject")).unwrap_or_default();
        let is_stream = matches!(path.subresource.as_str(), "log" | "exec" | "attach" | "portforward");
        let (format, view) = match is_stream {
            true => (Format::Json, View::Full),
            false => negotiate(respond::header(&parts.headers, "accept"), include)?,
        };
        let call = Call { user, kind, namespace: path.namespace.clone(), name: path.name.clone() };
        let request = RestRequest {
            method: parts.method.clone(),
            query,
            format,
            view,
            now: self.api.now_text(),
            parts,
        };
        if path.subresource.is_empty() {
            self.resource(call, verb, &request, content).await
        } else {
            self.subresource(call, &path.subresource, request, content).await
        }
    }

    async fn resource(
        &self,
        call: Call,
        verb: &str,
        request: &RestRequest,
        content: Body,
    ) -> Result<Response<Body>, Status> {
        match verb {
            "get" => self.get(&call, request).await,
            "list" => self.list(&call, request).await,
            "watch" => self.watch(&call, request).await,
            "create" if call.name.is_empty() => self.create(&call, request, content).await,
            "update" if !call.name.is_empty() => self.update(&call, request, content).await,
            "patch" if !call.name.is_empty() => self.patch(&call, request, content).await,
            "delete" => self.delete(&call, request, content).await,
            "deletecollection" if call.kind.verbs().contains(&"deletecollection") => {
                self.delete_collection(&call, request, content).await
            }
            _ => Err(Status::method_not_allowed()),
        }
    }
}

impl Api {
    /// Refuses what the user may not do.
    pub(crate) async fn authorize(&self, user: &User, attributes: &Attributes) -> Result<(), Status> {
        let allowed = match authz::decide(user, attributes) {
            Decision::Allow => true,
            Decision::Deny => false,
            Decision::IfPodReferences { node } => self.pod_refers(&node, attributes).await?,
        };
        if allowed { Ok(()) } else { Err(authz::refusal(user, attributes)) }
    }

    /// Reports whether a pod bound to `node` refers to what is asked for.
    async fn pod_refers(&self, node: &str, attributes: &Attributes) -> Result<bool, Status> {
        let pods = stored_kind("", "pods").ok_or_else(Status::no_such_resource)?;
        let wanted = |stored: &Stored| {
            object::str_at(&stored.object, &["spec", "nodeName"]) == node
                && authz::refers(&stored.object, &attributes.resource, &attributes.name)
        };
        let query = ListQuery {
            kind: pods,
            namespace: &attributes.namespace,
            at: At::Newest,
            limit: 1,
            after: None,
            keep: &wanted,
            filtered: true,
        };
        let page = self.storage.list(&query).await;
        Ok(!page.map_err(|error| Status::from_storage(error, pods, ""))?.items.is_empty())
    }
}

fn attributes(verb: &str, path: &ResourcePath, query: &Query) -> Attributes {
    let fields = proto::api::fields::Selector::parse(query.get("fieldSelector")).unwrap_or_default();
    let required = |field: &str| fields.required(field).unwrap_or_default().to_owned();
    let is_namespace = path.resource == "namespaces" && path.group.is_empty();
    Attributes {
        verb: verb.to_owned(),
        group: path.group.clone(),
        resource: path.resource.clone(),
        subresource: path.subresource.clone(),
        namespace: if is_namespace { path.name.clone() } else { path.namespace.clone() },
        name: if path.name.is_empty() { required("metadata.name") } else { path.name.clone() },
        path: String::new(),
        selected_node: required("spec.nodeName"),
    }
}

/// A namespaced object needs its namespace in the path, a cluster-scoped one must not have one.
fn check_scope(kind: &Kind, path: &ResourcePath) -> Result<(), Status> {
    let missing = kind.scope == Scope::Namespaced && path.namespace.is_empty() && !path.name.is_empty();
    let surplus = kind.scope == Scope::Cluster && !path.namespace.is_empty();
    if missing || surplus { Err(Status::no_such_resource()) } else { Ok(()) }
}
