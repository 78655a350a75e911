//! Workloads of the `k8s` tier: clients use the API of whole servers, over REST and gRPC, each in a namespace of its workload's own.
//!
//! What a request asked and what came back is recorded whole. That resource versions are revisions of the store lets the checkers hold every
//! answer against the store's log.

pub(super) mod leader;
pub(super) mod list_watch;
pub(super) mod node;
pub(super) mod occ;
pub(super) mod orphans;
pub(super) mod replicas;
pub(super) mod scheduling;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::{Asked, Client};
use crate::etcd::Failure;
use crate::history::{ApiAnswer, ApiCall, Face, Function, Listing, Named, Removal, Resource, Written};

/// Longest wait for controllers once all faults are over: a leader that was lost is missed for 15 s, and another one has to start.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks whether they are done.
const SETTLE_POLL: Duration = Duration::from_millis(250);

impl Client {
    /// Sends a request to the server whose turn it is and records it; returns what came back.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub(super) async fn request(&mut self, call: &ApiCall) -> std::io::Result<Result<ApiAnswer, Failure>> {
        let server = self.take_server()?;
        let asked = Asked { f: Function::Api, key: None, value: serde_json::to_value(call)? };
        let is_read = matches!(call, ApiCall::Get(_));
        let calling = async {
            let answer = server.perform(call).await?;
            // The revision of an object that is read is an old one.
            let revision = (answer.revision > 0 && !is_read).then_some(answer.revision);
            Ok((answer, revision))
        };
        let outcome = self.observe(asked, server.name.clone(), calling).await?;
        Ok(outcome.map(|(answer, _)| answer))
    }

    /// Asks again and again until what controllers are to do is done, and records the wait.
    async fn settle(
        &mut self,
        what: &str,
        call: &ApiCall,
        is_done: impl Fn(&ApiAnswer) -> Result<(), String>,
    ) -> std::io::Result<()> {
        let server = self.take_server()?;
        let asked = Asked { f: Function::Settle, key: Some(what.to_owned()), value: Value::Null };
        let waiting = async {
            let began = Instant::now();
            loop {
                let missing = match server.perform(call).await {
                    Ok(answer) => match is_done(&answer) {
                        Ok(()) => {
                            let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                            return Ok((json!({ "milliseconds": milliseconds }), None));
                        }
                        Err(missing) => missing,
                    },
                    Err(failure) => failure.to_string(),
                };
                if began.elapsed() > SETTLE_TIMEOUT {
                    return Err(Failure::NotApplied(format!("after {SETTLE_TIMEOUT:?}: {missing}")));
                }
                tokio::time::sleep(SETTLE_POLL).await;
            }
        };
        let _ = self.observe(asked, server.name.clone(), waiting).await?;
        Ok(())
    }

    /// Makes the workload's namespace, whoever of the clients is first.
    async fn ensure_namespace(&mut self, namespace: &str) -> std::io::Result<()> {
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
        let (face, resource, name) = (Face::Rest, Resource::Namespaces, namespace.to_owned());
        let written = Written { face, resource, name, object, ..Written::default() };
        let call = ApiCall::Create(written);
        while self.turn().await {
            if let Ok(answer) = self.request(&call).await?
                && (answer.is_done() || answer.code == 409)
            {
                break;
            }
        }
        Ok(())
    }
}

fn get(face: Face, resource: Resource, namespace: &str, name: &str) -> ApiCall {
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    ApiCall::Get(Named { face, resource, namespace, name })
}

/// All of a namespace, as it is now.
fn list(face: Face, resource: Resource, namespace: &str) -> ApiCall {
    ApiCall::List(Listing { face, resource, namespace: namespace.to_owned(), ..Listing::default() })
}

fn written(face: Face, resource: Resource, namespace: &str, name: &str, object: Value) -> Written {
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    Written { face, resource, namespace, name, object, fence: None }
}

fn removal(face: Face, resource: Resource, namespace: &str, name: &str) -> Removal {
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    Removal { face, resource, namespace, name, propagation: None }
}

fn config_map(namespace: &str, name: &str, data: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "namespace": namespace, "name": name }, "data": data,
    })
}

/// Over which face the n-th request goes: they take turns.
fn face(number: u64) -> Face {
    if number.is_multiple_of(2) { Face::Rest } else { Face::Grpc }
}
