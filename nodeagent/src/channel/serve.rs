//! Does what a stream asks for.

use std::path::PathBuf;
use std::sync::Arc;

use client::Cache;
use k8s_openapi::api::core::v1::Pod;
use proto::keelson::{Finish, Open, PodTarget, open};

use super::connection::StreamIo;
use super::{logs, terminal};
use crate::runtime::{ContainerInfo, ContainerState, Runtime};

/// What streams are served from.
#[derive(Debug)]
pub struct Served {
    /// The node's name.
    pub node_name: String,
    /// Runs commands and knows containers.
    pub runtime: Arc<dyn Runtime>,
    /// The node's pods; anything else is refused.
    pub pods: Cache<Pod>,
    /// Where logs are.
    pub log_root: PathBuf,
}

/// Serves a stream to its end and returns how it ended.
pub(super) async fn serve(open: Open, io: StreamIo, served: &Served) -> Finish {
    let ended = match open.request {
        Some(open::Request::Logs(request)) => logs::serve(request, io, served).await,
        Some(open::Request::Exec(request)) => terminal::exec(request, io, served).await,
        Some(open::Request::Attach(request)) => terminal::attach(request, io, served).await,
        Some(open::Request::PortForward(_)) => Err(refuse(501, "port-forward is not implemented yet")),
        None => Err(refuse(400, "the request is empty")),
    };
    ended.unwrap_or_else(|finish| finish)
}

/// Returns an end with an error.
pub(super) fn refuse(http_code: i32, message: impl Into<String>) -> Finish {
    Finish { http_code, message: message.into(), exit_code: None }
}

impl Served {
    /// Returns the pod that is meant, if it is this node's.
    pub(super) fn pod(&self, target: &PodTarget) -> Result<Arc<Pod>, Finish> {
        let pod = self.pods.get(&target.namespace, &target.name);
        let same = |pod: &Arc<Pod>| {
            target.uid.is_empty() || pod.metadata.uid.as_deref() == Some(target.uid.as_str())
        };
        pod.filter(same).ok_or_else(|| {
            refuse(404, format!("pod {}/{} is not on this node", target.namespace, target.name))
        })
    }

    /// Returns the pod's containers of the wanted name, newest first.
    pub(super) async fn containers(
        &self,
        pod: &Pod,
        target: &PodTarget,
    ) -> Result<Vec<ContainerInfo>, Finish> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let listed = self.runtime.containers().await.map_err(|error| refuse(500, error.to_string()))?;
        let wanted = |item: &ContainerInfo| item.pod_uid == uid && item.name == target.container;
        let mut found: Vec<ContainerInfo> = listed.into_iter().filter(wanted).collect();
        found.sort_by_key(|container| std::cmp::Reverse((container.attempt, container.created_at)));
        Ok(found)
    }

    /// Returns the running container of the wanted name.
    pub(super) async fn running(&self, target: &PodTarget) -> Result<ContainerInfo, Finish> {
        let pod = self.pod(target)?;
        let newest = self.containers(&pod, target).await?.into_iter().next();
        let running = newest.filter(|container| container.state == ContainerState::Running);
        running.ok_or_else(|| {
            refuse(400, format!("container {} in pod {} is not running", target.container, target.name))
        })
    }
}
