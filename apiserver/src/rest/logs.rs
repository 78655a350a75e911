//! `pods/log`: streams a container's log from its node.

use axum::body::Body;
use bytes::Bytes;
use futures::stream::unfold;
use http::{Response, StatusCode};
use proto::keelson::{LogsRequest, PodTarget, open};
use serde_json::Value;

use super::{Rest, RestRequest, respond};
use crate::endpoints::Call;
use crate::endpoints::status::Status;
use crate::node_channel::{FromNode, NodeStream};
use crate::object;
use crate::registry::Object;

impl Rest {
    pub(super) async fn logs(&self, call: &Call, request: &RestRequest) -> Result<Response<Body>, Status> {
        let query = &request.query;
        let pod = self.api.read(call).await?;
        let target = target(call, &pod, query.get("container"))?;
        let node = node_of(call, &pod)?;
        let logs = LogsRequest {
            target: Some(target),
            follow: query.flag("follow"),
            previous: query.flag("previous"),
            timestamps: query.flag("timestamps"),
            since_seconds: query.integer("sinceSeconds")?,
            since_time: query.get("sinceTime").to_owned(),
            tail_lines: query.integer("tailLines")?,
            limit_bytes: query.integer("limitBytes")?,
        };
        let mut stream = self.api.nodes.open(&node, open::Request::Logs(logs)).await?;
        // The first frame decides whether this is a log or an error.
        let first = match stream.next().await? {
            FromNode::Data(_, bytes) => bytes,
            FromNode::Finish(finish) if finish.http_code == 200 => Bytes::new(),
            FromNode::Finish(finish) => {
                return Err(Status::from_code(
                    u16::try_from(finish.http_code).unwrap_or(500),
                    finish.message,
                ));
            }
        };
        let shutdown = self.shutdown.clone().cancelled_owned();
        let chunks = futures::StreamExt::take_until(unfold((stream, Some(first)), next_chunk), shutdown);
        Ok(respond::with_type(StatusCode::OK, "text/plain; charset=utf-8", Body::from_stream(chunks)))
    }
}

type LogState = (NodeStream, Option<Bytes>);

async fn next_chunk((mut stream, first): LogState) -> Option<(Result<Bytes, std::io::Error>, LogState)> {
    if let Some(first) = first {
        return Some((Ok(first), (stream, None)));
    }
    match stream.next().await {
        Ok(FromNode::Data(_, bytes)) => Some((Ok(bytes), (stream, None))),
        Ok(FromNode::Finish(_)) => None,
        // Cutting the response short tells the client that the log did not end here.
        Err(status) => Some((Err(std::io::Error::other(status.message)), (stream, None))),
    }
}

/// Returns the node that a pod runs on.
pub(super) fn node_of(call: &Call, pod: &Object) -> Result<String, Status> {
    match object::str_at(pod, &["spec", "nodeName"]) {
        "" => Err(Status::bad_request(format!("pod {} does not have a host assigned", call.name))),
        node => Ok(node.to_owned()),
    }
}

/// Returns the container that is meant; a pod with one container needs no name.
pub(super) fn target(call: &Call, pod: &Object, wanted: &str) -> Result<PodTarget, Status> {
    let names = |field: &str| -> Vec<String> {
        let list = object::at(pod, &["spec", field]).and_then(Value::as_array);
        let name = |container: &Value| container.get("name").and_then(Value::as_str).map(str::to_owned);
        list.into_iter().flatten().filter_map(name).collect()
    };
    let main = names("containers");
    let name = &call.name;
    let container = match (wanted, main.as_slice()) {
        ("", [only]) => only.clone(),
        ("", _) => {
            return Err(Status::bad_request(format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                main.join(" ")
            )));
        }
        (wanted, _) => {
            let all = [main.clone(), names("initContainers"), names("ephemeralContainers")].concat();
            if !all.iter().any(|known| known == wanted) {
                return Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}")));
            }
            wanted.to_owned()
        }
    };
    Ok(PodTarget {
        namespace: call.namespace.clone(),
        name: name.clone(),
        uid: object::uid(pod).to_owned(),
        container,
    })
}
