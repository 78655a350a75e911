//! One server as clients see it, through either face.

use std::sync::Arc;

use anyhow::Context;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tonic::transport::Channel;
use transport::outside::{Machine, Outside};

use super::dial::Tls;
use super::rest::{Rest, Sent};
use super::{Access, Dial, collection, grpc, leadership, path, without_managers};
use crate::etcd::Failure;
use crate::history::{ApiAnswer, ApiCall, Face, Listing, Named, Removal, Written, revision};

/// A client pinned to one server. A clone has connections of its own for REST, and shares those for gRPC.
pub struct Server {
    pub name: String,
    /// `host:port`.
    address: String,
    dial: Arc<dyn Dial>,
    pub(super) rest: Arc<Rest>,
    pub(super) grpc: client::Client,
    pub(super) channel: Channel,
}

impl Clone for Server {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            address: self.address.clone(),
            dial: Arc::clone(&self.dial),
            rest: Arc::new(Rest::new(&self.address, Arc::clone(&self.dial))),
            grpc: self.grpc.clone(),
            channel: self.channel.clone(),
        }
    }
}

impl Server {
    /// Returns a client that connects when it is first used; `address` is `host:port`.
    ///
    /// # Errors
    /// When the address is none.
    pub fn new(name: &str, address: &str, access: &Access) -> anyhow::Result<Self> {
        let url = format!("https://{address}");
        let channel = transport::grpc::channel(&url, &access.identity)?;
        Self::over((name, address), Arc::new(Tls::new(address, access)), channel, Machine::shared())
    }

    /// Returns a client that reaches a server, by its name and `host:port`, over what it is given: by `dial` for REST, by `channel`
    /// for gRPC.
    ///
    /// # Errors
    /// Never with one channel.
    pub fn over(
        (name, address): (&str, &str),
        dial: Arc<dyn Dial>,
        channel: Channel,
        outside: Arc<dyn Outside>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            address: address.to_owned(),
            rest: Arc::new(Rest::new(address, Arc::clone(&dial))),
            dial,
            grpc: client::Client::over(vec![channel.clone()], "keelson-chaos", outside)
                .with_context(|| address.to_owned())?,
            channel,
        })
    }

    /// Sends one request.
    ///
    /// # Errors
    /// [`Failure`] says whether it may have been done. A refusal that is certain is an answer.
    pub async fn perform(&self, call: &ApiCall) -> Result<ApiAnswer, Failure> {
        let answered = match call {
            ApiCall::Get(Named { face: Face::Rest, .. })
            | ApiCall::List(Listing { face: Face::Rest, .. })
            | ApiCall::Create(Written { face: Face::Rest, .. })
            | ApiCall::Update(Written { face: Face::Rest, .. })
            | ApiCall::Patch(Written { face: Face::Rest, .. })
            | ApiCall::Delete(Removal { face: Face::Rest, .. }) => self.over_rest(call).await,
            ApiCall::Get(_)
            | ApiCall::List(_)
            | ApiCall::Create(_)
            | ApiCall::Update(_)
            | ApiCall::Patch(_)
            | ApiCall::Delete(_) => grpc::perform(&self.grpc, call).await,
            ApiCall::Acquire(_) | ApiCall::Renew(_) | ApiCall::Release(_) => {
                leadership::perform(self.channel.clone(), call).await
            }
        };
        match answered {
            // A read changes nothing.
            Err(Failure::Unknown(error)) if !call.is_write() => Err(Failure::NotApplied(error)),
            answered => answered,
        }
    }

    /// Whether the server takes requests and has its store's leader.
    pub async fn is_ready(&self) -> bool {
        self.rest.ask(Sent::get("/readyz".to_owned())).await.is_ok_and(|(status, _)| status == StatusCode::OK)
    }

    async fn over_rest(&self, call: &ApiCall) -> Result<ApiAnswer, Failure> {
        let Some(sent) = sent(call) else { return Err(Failure::NotApplied("not over REST".to_owned())) };
        let (status, body) = self.rest.ask(sent).await?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        answer(status, body)
    }
}

fn sent(call: &ApiCall) -> Option<Sent> {
    const MERGE: &str = "application/merge-patch+json";
    let write = |method, path, body: &Value, content_type| Sent {
        method,
        path,
        body: body.to_string(),
        content_type,
    };
    let named = |written: &Written| {
        let (face, resource) = (written.face, written.resource);
        path(&Named { face, resource, namespace: written.namespace.clone(), name: written.name.clone() })
    };
    Some(match call {
        ApiCall::Get(object) => Sent::get(path(object)),
        ApiCall::List(listing) => Sent::get(list_path(listing)),
        ApiCall::Create(written) => {
            let path = collection(written.resource, &written.namespace);
            write(Method::POST, path, &written.object, "application/json")
        }
        ApiCall::Update(written) => write(Method::PUT, named(written), &written.object, "application/json"),
        ApiCall::Patch(written) => write(Method::PATCH, named(written), &written.object, MERGE),
        ApiCall::Delete(removal) => {
            let Removal { face, resource, namespace, name, propagation } = removal.clone();
            let options = json!({
                "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation,
            });
            let path = path(&Named { face, resource, namespace, name });
            write(Method::DELETE, path, &options, "application/json")
        }
        ApiCall::Acquire(_) | ApiCall::Renew(_) | ApiCall::Release(_) => return None,
    })
}

fn list_path(listing: &Listing) -> String {
    let collection = collection(listing.resource, &listing.namespace);
    let version = &listing.resource_version;
    match (version.as_str(), listing.exact) {
        ("", _) => collection,
        (_, true) => format!("{collection}?resourceVersion={version}&resourceVersionMatch=Exact"),
        (_, false) => format!("{collection}?resourceVersion={version}&resourceVersionMatch=NotOlderThan"),
    }
}

/// What a status code says of a request: 429 and 503 promise that nothing was done, and only other client errors are certain, too.
fn answer(status: StatusCode, body: Value) -> Result<ApiAnswer, Failure> {
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let code = status.as_u16();
    match code {
        200..300 => {
            let items = body.get("items").and_then(Value::as_array).cloned();
            let revision = revision(&body);
            Ok(match items {
                Some(items) => ApiAnswer {
                    code,
                    items: items.into_iter().map(without_managers).collect(),
                    revision,
                    ..ApiAnswer::default()
                },
                None => ApiAnswer { code, object: without_managers(body), revision, ..ApiAnswer::default() },
            })
        }
        429 | 503 => Err(Failure::NotApplied(text("message"))),
        400..500 => Ok(ApiAnswer { code, reason: text("reason"), ..ApiAnswer::default() }),
        _ => Err(Failure::Unknown(format!("{code}: {}", text("message")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_certain_refusals_are_answers() {
        let of = |code| answer(StatusCode::from_u16(code).unwrap(), json!({ "reason": "Conflict" }));
        assert_eq!(of(409).unwrap().reason, "Conflict");
        assert!(of(200).unwrap().is_done() && !of(404).unwrap().is_done());
        assert!(matches!(of(503), Err(Failure::NotApplied(_))));
        assert!(matches!(of(429), Err(Failure::NotApplied(_))));
        assert!(matches!(of(504), Err(Failure::Unknown(_))));
        assert!(matches!(of(500), Err(Failure::Unknown(_))));
    }

    #[test]
    fn a_list_says_how_old_it_may_be() {
        let path = |version: &str, exact| {
            let (namespace, resource_version) = ("n".to_owned(), version.to_owned());
            list_path(&Listing { namespace, resource_version, exact, ..Listing::default() })
        };
        assert_eq!(path("", false), "/api/v1/namespaces/n/configmaps");
        assert!(path("7", true).ends_with("?resourceVersion=7&resourceVersionMatch=Exact"));
        assert!(path("0", false).ends_with("?resourceVersion=0&resourceVersionMatch=NotOlderThan"));
    }
}
