//! A runtime behind a CRI socket.
//!
//! Calls that the runtime once answered with UNIMPLEMENTED are not sent again on this connection. containerd 1.6 has no container
//! events: [`Runtime::changed`] then waits one poll interval.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hyper_util::rt::TokioIo;
use k8s_cri::v1 as cri;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tokio::sync::Mutex as AsyncMutex;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status, Streaming};
use tower::service_fn;

use super::{
    ContainerId, ContainerInfo, ContainerSpec, ExecOutput, ExecRequest, ImageInfo, Runtime, RuntimeError,
    RuntimeVersion, SandboxId, SandboxInfo, SandboxSpec, StreamRequest, convert,
};
use crate::images;

/// Deadline of quick calls. Upstream's own default is 2 min; lists take 1–2 ms, so 30 s already means a stuck runtime.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Deadline of calls that set up or tear down network and mounts.
const SANDBOX_LIMIT: Duration = Duration::from_secs(120);
/// Deadline of an image pull.
const PULL_LIMIT: Duration = Duration::from_secs(600);
/// Added to the grace period when a container is stopped: the kill itself and the runtime's bookkeeping.
const STOP_MARGIN: Duration = Duration::from_secs(30);
/// How often the runtime is listed when it sends no events (upstream's relist period).
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// With events a rare list still runs, in case one was lost.
const SAFETY_POLL: Duration = Duration::from_secs(300);
/// Bound for one CRI answer: 10 000 containers of about 1.5 kB each fit.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
const EVENTS_CALL: &str = "GetContainerEvents";

/// A client of one CRI socket.
#[derive(Debug)]
pub struct CriRuntime {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    socket: PathBuf,
    unimplemented: Mutex<BTreeSet<&'static str>>,
    events: AsyncMutex<Option<Streaming<cri::ContainerEventResponse>>>,
}

impl CriRuntime {
    /// Returns a client of the socket; it connects with the first call and again whenever the runtime was restarted.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        let path = socket.to_owned();
        let channel = Endpoint::from_static("http://cri.invalid").connect_with_connector_lazy(service_fn(
            move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            },
        ));
        Self {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            images: ImageServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX),
            socket: socket.to_owned(),
            unimplemented: Mutex::new(BTreeSet::new()),
            events: AsyncMutex::new(None),
        }
    }

    fn lacks(&self, call: &'static str) -> bool {
        self.unimplemented.lock().unwrap_or_else(PoisonError::into_inner).contains(call)
    }

    fn error(&self, call: &'static str, limit: Duration, status: &Status) -> RuntimeError {
        match status.code() {
            Code::Unimplemented => {
                self.unimplemented.lock().unwrap_or_else(PoisonError::into_inner).insert(call);
                RuntimeError::Unimplemented { call }
            }
            Code::NotFound => RuntimeError::NotFound { what: status.message().to_owned() },
            Code::DeadlineExceeded | Code::Cancelled => RuntimeError::Timeout { call, limit },
            Code::Unavailable => RuntimeError::Unreachable { message: status.message().to_owned() },
            _ => RuntimeError::Failed { call, message: status.message().to_owned() },
        }
    }

    async fn open_events(&self) -> Result<Streaming<cri::ContainerEventResponse>, RuntimeError> {
        if self.lacks(EVENTS_CALL) {
            return Err(RuntimeError::Unimplemented { call: EVENTS_CALL });
        }
        let call = self.runtime.clone().get_container_events(cri::GetEventsRequest {}).await;
        call.map(tonic::Response::into_inner).map_err(|status| self.error(EVENTS_CALL, CALL_LIMIT, &status))
    }

    /// Waits for one event; an error means that the stream must be opened again.
    async fn next_event(&self) -> Result<(), RuntimeError> {
        let mut events = self.events.lock().await;
        if events.is_none() {
            *events = Some(self.open_events().await?);
        }
        let next = match events.as_mut() {
            Some(stream) => stream.message().await,
            None => Ok(None),
        };
        match next {
            Ok(Some(_)) => Ok(()),
            Ok(None) => {
                *events = None;
                Err(RuntimeError::Unreachable { message: "the event stream ended".to_owned() })
            }
            Err(status) => {
                *events = None;
                Err(self.error(EVENTS_CALL, CALL_LIMIT, &status))
            }
        }
    }
}

/// A request with a deadline that the runtime sees too.
fn request<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// Whole seconds, rounded up, for CRI's integer fields.
fn whole_seconds(duration: Duration) -> i64 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// Turns "it is not there" into success, for calls whose aim is that it is gone.
fn gone_is_fine(result: Result<(), RuntimeError>) -> Result<(), RuntimeError> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

/// Sends one call with its deadline and maps the error.
macro_rules! call {
    ($self:ident . $service:ident . $method:ident, $name:literal, $limit:expr, $message:expr) => {{
        if $self.lacks($name) {
            return Err(RuntimeError::Unimplemented { call: $name });
        }
        let mut client = $self.$service.clone();
        let sent = tokio::time::timeout($limit, client.$method(request($message, $limit))).await;
        match sent {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err($self.error($name, $limit, &status)),
            Err(_) => Err(RuntimeError::Timeout { call: $name, limit: $limit }),
        }
    }};
}

#[async_trait]
impl Runtime for CriRuntime {
    async fn version(&self) -> Result<RuntimeVersion, RuntimeError> {
        let answer = call!(self.runtime.version, "Version", CALL_LIMIT, cri::VersionRequest::default())?;
        Ok(RuntimeVersion { name: answer.runtime_name, version: answer.runtime_version })
    }

    async fn run_sandbox(&self, spec: &SandboxSpec) -> Result<SandboxId, RuntimeError> {
        let message = cri::RunPodSandboxRequest {
            config: Some(convert::sandbox_config(spec)),
            runtime_handler: String::new(),
        };
        let answer = call!(self.runtime.run_pod_sandbox, "RunPodSandbox", SANDBOX_LIMIT, message)?;
        Ok(SandboxId(answer.pod_sandbox_id))
    }

    async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        let message = cri::StopPodSandboxRequest { pod_sandbox_id: id.0.clone() };
        let answer = call!(self.runtime.stop_pod_sandbox, "StopPodSandbox", SANDBOX_LIMIT, message);
        gone_is_fine(answer.map(drop))
    }

    async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        let message = cri::RemovePodSandboxRequest { pod_sandbox_id: id.0.clone() };
        let answer = call!(self.runtime.remove_pod_sandbox, "RemovePodSandbox", SANDBOX_LIMIT, message);
        gone_is_fine(answer.map(drop))
    }

    async fn sandboxes(&self) -> Result<Vec<SandboxInfo>, RuntimeError> {
        let message = cri::ListPodSandboxRequest { filter: None };
        let answer = call!(self.runtime.list_pod_sandbox, "ListPodSandbox", CALL_LIMIT, message)?;
        Ok(answer.items.into_iter().filter_map(convert::listed_sandbox).collect())
    }

    async fn sandbox(&self, id: &SandboxId) -> Result<SandboxInfo, RuntimeError> {
        let message = cri::PodSandboxStatusRequest { pod_sandbox_id: id.0.clone(), verbose: false };
        let answer = call!(self.runtime.pod_sandbox_status, "PodSandboxStatus", CALL_LIMIT, message)?;
        let status = answer.status.and_then(convert::sandbox);
        status.ok_or_else(|| RuntimeError::NotFound { what: format!("sandbox {id}") })
    }

    async fn create_container(
        &self,
        sandbox: &SandboxId,
        sandbox_spec: &SandboxSpec,
        spec: &ContainerSpec,
    ) -> Result<ContainerId, RuntimeError> {
        let message = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.0.clone(),
            config: Some(convert::container_config(sandbox_spec, spec)),
            sandbox_config: Some(convert::sandbox_config(sandbox_spec)),
        };
        let answer = call!(self.runtime.create_container, "CreateContainer", SANDBOX_LIMIT, message)?;
        Ok(ContainerId(answer.container_id))
    }

    async fn start_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let message = cri::StartContainerRequest { container_id: id.0.clone() };
        call!(self.runtime.start_container, "StartContainer", SANDBOX_LIMIT, message).map(drop)
    }

    async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), RuntimeError> {
        let message = cri::StopContainerRequest { container_id: id.0.clone(), timeout: whole_seconds(grace) };
        let answer = call!(self.runtime.stop_container, "StopContainer", grace + STOP_MARGIN, message);
        gone_is_fine(answer.map(drop))
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let message = cri::RemoveContainerRequest { container_id: id.0.clone() };
        let answer = call!(self.runtime.remove_container, "RemoveContainer", SANDBOX_LIMIT, message);
        gone_is_fine(answer.map(drop))
    }

    async fn containers(&self) -> Result<Vec<ContainerInfo>, RuntimeError> {
        let message = cri::ListContainersRequest { filter: None };
        let answer = call!(self.runtime.list_containers, "ListContainers", CALL_LIMIT, message)?;
        Ok(answer.containers.into_iter().filter_map(convert::listed_container).collect())
    }

    async fn container(&self, id: &ContainerId) -> Result<ContainerInfo, RuntimeError> {
        let missing = || RuntimeError::NotFound { what: format!("container {id}") };
        let message = cri::ListContainersRequest {
            filter: Some(cri::ContainerFilter { id: id.0.clone(), ..Default::default() }),
        };
        let listed = call!(self.runtime.list_containers, "ListContainers", CALL_LIMIT, message)?;
        let listed = listed.containers.into_iter().find(|item| item.id == id.0).ok_or_else(missing)?;
        let message = cri::ContainerStatusRequest { container_id: id.0.clone(), verbose: false };
        let answer = call!(self.runtime.container_status, "ContainerStatus", CALL_LIMIT, message)?;
        let sandbox = SandboxId(listed.pod_sandbox_id);
        answer.status.and_then(|status| convert::container(status, sandbox)).ok_or_else(missing)
    }

    async fn reopen_log(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let message = cri::ReopenContainerLogRequest { container_id: id.0.clone() };
        call!(self.runtime.reopen_container_log, "ReopenContainerLog", CALL_LIMIT, message).map(drop)
    }

    async fn exec_sync(&self, exec: &ExecRequest) -> Result<ExecOutput, RuntimeError> {
        let message = cri::ExecSyncRequest {
            container_id: exec.container.0.clone(),
            cmd: exec.command.clone(),
            timeout: whole_seconds(exec.timeout),
        };
        let answer = call!(self.runtime.exec_sync, "ExecSync", exec.timeout + CALL_LIMIT, message)?;
        Ok(ExecOutput { code: answer.exit_code, stdout: answer.stdout, stderr: answer.stderr })
    }

    async fn stream_url(&self, stream: &StreamRequest) -> Result<String, RuntimeError> {
        let container_id = stream.container.0.clone();
        let (stdin, stdout, stderr, tty) = (stream.stdin, stream.stdout, stream.stderr, stream.tty);
        if let Some(cmd) = stream.command.clone() {
            let message = cri::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr };
            return Ok(call!(self.runtime.exec, "Exec", CALL_LIMIT, message)?.url);
        }
        let message = cri::AttachRequest { container_id, stdin, tty, stdout, stderr };
        Ok(call!(self.runtime.attach, "Attach", CALL_LIMIT, message)?.url)
    }

    async fn image(&self, name: &str) -> Result<Option<ImageInfo>, RuntimeError> {
        let message = cri::ImageStatusRequest { image: Some(convert::image_spec(name)), verbose: false };
        let answer = call!(self.images.image_status, "ImageStatus", CALL_LIMIT, message)?;
        Ok(answer.image.map(convert::image))
    }

    async fn pull_image(&self, name: &str) -> Result<(), RuntimeError> {
        let message = cri::PullImageRequest {
            image: Some(convert::image_spec(name)),
            auth: None,
            sandbox_config: None,
        };
        call!(self.images.pull_image, "PullImage", PULL_LIMIT, message).map(drop)
    }

    async fn images(&self) -> Result<Vec<ImageInfo>, RuntimeError> {
        let answer = call!(
            self.images.list_images,
            "ListImages",
            CALL_LIMIT,
            cri::ListImagesRequest { filter: None }
        )?;
        Ok(answer.images.into_iter().map(convert::image).collect())
    }

    async fn import_image(&self, archive: &Path) -> Result<Vec<String>, RuntimeError> {
        let failed =
            |error: images::ImportError| RuntimeError::Failed { call: "import", message: error.to_string() };
        images::import(&self.socket, archive).await.map_err(failed)
    }

    async fn changed(&self) {
        let limit = if self.lacks(EVENTS_CALL) { POLL_INTERVAL } else { SAFETY_POLL };
        match tokio::time::timeout(limit, self.next_event()).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(_)) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}
