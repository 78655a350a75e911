//! Writes bindings: the only place of the scheduler that gives a pod its node.
//!
//! The server compares leadership, the pod's state and the node's capacity inside the commit. A refusal and a lost answer are
//! treated alike: the placement is forgotten and the pod tried again. If the binding did happen after all, the second one is
//! refused and the watch shows the first.

use std::sync::Arc;

use client::{ApiError, Client, Fence, WriteOptions};
use tracing::{debug, info, warn};

use super::planner::BindingEnd;
use super::pod_info::PodInfo;

/// Binds pods for one tenure of leadership.
#[derive(Clone)]
pub(super) struct Binder {
    client: Client,
    fence: Fence,
}

/// What a binding came to.
pub(super) struct Binding {
    /// The pod.
    pub(super) pod: Arc<PodInfo>,
    /// The node it was meant for.
    pub(super) node: Arc<str>,
    /// What the server answered.
    pub(super) result: Result<(), ApiError>,
}

impl Binder {
    pub(super) fn new(client: Client, fence: Fence) -> Self {
        Self { client, fence }
    }

    /// Binds `pod` to `node`.
    pub(super) async fn bind(self, pod: Arc<PodInfo>, node: Arc<str>) -> Binding {
        let options = WriteOptions { fence: Some(self.fence), ..WriteOptions::default() };
        let result = self.client.bind(&pod.key.namespace, &pod.key.name, &pod.uid, &node, &options).await;
        match &result {
            Ok(()) => info!(pod = %pod.key, %node, "pod bound"),
            Err(error @ (ApiError::NotFound(_) | ApiError::Conflict(_))) => {
                debug!(pod = %pod.key, %node, %error, "binding refused")
            }
            Err(error) => warn!(pod = %pod.key, %node, %error, "binding failed"),
        }
        Binding { pod, node, result }
    }
}

impl Binding {
    /// Returns what the planner needs to know.
    pub(super) fn end(&self) -> BindingEnd {
        match &self.result {
            Ok(()) => BindingEnd::Bound,
            Err(_) => BindingEnd::Failed,
        }
    }
}
