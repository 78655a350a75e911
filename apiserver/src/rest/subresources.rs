//! What is served below an object.

use axum::body::Body;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{Rest, RestRequest, body, respond, verbs};
use crate::endpoints::Call;
use crate::endpoints::bind::Binding;
use crate::endpoints::delete::Deleted;
use crate::endpoints::status::Status;
use crate::object;
use crate::patch;
use crate::registry::{Object, Part, Subresource};
use crate::schema::Schemas;

impl Rest {
    pub(super) async fn subresource(
        &self,
        call: Call,
        name: &str,
        request: RestRequest,
        content: Body,
    ) -> Result<Response<Body>, Status> {
        let subresource = subresource(name)
            .filter(|subresource| call.kind.has(*subresource))
            .ok_or_else(Status::no_such_resource)?;
        match (subresource, request.method.clone()) {
            (Subresource::Status, Method::GET) | (Subresource::Finalize, Method::GET) => {
                self.get(&call, &request).await
            }
            (Subresource::Status, Method::PUT) => self.put_part(&call, Part::Status, &request, content).await,
            (Subresource::Status, Method::PATCH) => {
                self.patch_part(&call, Part::Status, &request, content).await
            }
            (Subresource::Finalize, Method::PUT) => self.finalize(&call, &request, content).await,
            (Subresource::Scale, Method::GET) => {
                let scale = self.api.read_scale(&call).await?;
                Ok(respond::ok(&Value::Object(scale), request.format))
            }
            (Subresource::Scale, Method::PUT | Method::PATCH) => {
                self.change_scale(&call, &request, content).await
            }
            (Subresource::Binding, Method::POST) => self.bind(&call, &request, content).await,
            (Subresource::Eviction, Method::POST) => self.evict(&call, &request, content).await,
            (Subresource::Token, Method::POST) => {
                let bytes = request.json(content).await?;
                let answer = self.api.token_request(&call, body::decode_plain(&bytes)?).await?;
                Ok(respond::body(StatusCode::CREATED, &Value::Object(answer), request.format))
            }
            (Subresource::Log, Method::GET) => self.logs(&call, &request).await,
            (Subresource::Exec | Subresource::Attach, Method::GET | Method::POST) => {
                self.terminal(&call, subresource, request).await
            }
            (Subresource::PortForward, Method::GET | Method::POST) => {
                Err(Status::not_implemented("port-forward"))
            }
            _ => Err(Status::method_not_allowed()),
        }
    }

    /// `namespaces/finalize`: only `spec.finalizers` changes.
    async fn finalize(
        &self,
        call: &Call,
        request: &RestRequest,
        content: Body,
    ) -> Result<Response<Body>, Status> {
        let options = request.query.write_options("UpdateOptions")?;
        let bytes = request.json(content).await?;
        let wanted = body::decode_plain(&bytes)?;
        let finalized = self.api.finalize(call, &wanted, &options).await?;
        Ok(respond::ok(&Value::Object(finalized), request.format))
    }

    async fn change_scale(
        &self,
        call: &Call,
        request: &RestRequest,
        content: Body,
    ) -> Result<Response<Body>, Status> {
        let options = request.query.write_options("UpdateOptions")?;
        let patch_type = if request.method == Method::PATCH { Some(request.patch_type()?) } else { None };
        let bytes = match patch_type {
            Some(_) => body::read(content).await?,
            None => request.json(content).await?,
        };
        let scale = self
            .api
            .modify_scale(call, &options, &|current: &Object| match patch_type {
                None => body::decode_plain(&bytes),
                Some(patch_type) => {
                    let schemas = Schemas::builtin();
                    patch::apply_to_schema(schemas, "autoscaling", "v1", "Scale", patch_type, current, &bytes)
                        .map_err(|error| verbs::patch_error(call.kind, current, error))
                }
            })
            .await?;
        Ok(respond::ok(&Value::Object(scale), request.format))
    }

    async fn bind(
        &self,
        call: &Call,
        request: &RestRequest,
        content: Body,
    ) -> Result<Response<Body>, Status> {
        let options = request.query.write_options("CreateOptions")?;
        let bytes = request.json(content).await?;
        let wanted = body::decode_plain(&bytes)?;
        let name = object::name(&wanted);
        if !name.is_empty() && name != call.name {
            return Err(Status::bad_request("name in URL does not match name in Binding object"));
        }
        let binding = Binding {
            uid: object::uid(&wanted).to_owned(),
            node: object::str_at(&wanted, &["target", "name"]).to_owned(),
            annotations: object::at(&wanted, &["metadata", "annotations"]).cloned(),
        };
        self.api.bind(call, &binding, &options).await?;
        Ok(created(request))
    }

    /// Eviction without disruption budgets, which are not served yet: a delete with the eviction's options.
    async fn evict(
        &self,
        call: &Call,
        request: &RestRequest,
        content: Body,
    ) -> Result<Response<Body>, Status> {
        let bytes = request.json(content).await?;
        let eviction = body::decode_plain(&bytes)?;
        let name = object::name(&eviction);
        if !name.is_empty() && name != call.name {
            return Err(Status::bad_request("name in URL does not match name in Eviction object"));
        }
        let delete = object::at(&eviction, &["deleteOptions"]).and_then(Value::as_object).cloned();
        let (delete, options) = request.query.delete_options(&delete.unwrap_or_default())?;
        match self.api.delete(call, &delete, &options).await? {
            Deleted::Now(_) | Deleted::Pending(_) => Ok(created(request)),
        }
    }
}

fn created(request: &RestRequest) -> Response<Body> {
    let status =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    respond::body(StatusCode::CREATED, &status, request.format)
}

fn subresource(name: &str) -> Option<Subresource> {
    Some(match name {
        "status" => Subresource::Status,
        "scale" => Subresource::Scale,
        "finalize" => Subresource::Finalize,
        "binding" => Subresource::Binding,
        "eviction" => Subresource::Eviction,
        "log" => Subresource::Log,
        "exec" => Subresource::Exec,
        "attach" => Subresource::Attach,
        "portforward" => Subresource::PortForward,
        "token" => Subresource::Token,
        _ => return None,
    })
}
