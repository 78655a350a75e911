//! Serves a container's log.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use proto::keelson::{Channel as Pipe, Finish, LogsRequest, PodTarget};

use super::connection::{Sender, StreamIo};
use super::serve::{Served, refuse};
use crate::logs::{LogOptions, LogSink, read};
use crate::pod::spec::log_directory;
use crate::runtime::{ContainerId, ContainerInfo, Runtime};

struct Follower {
    sender: Sender,
    runtime: Arc<dyn Runtime>,
    container: ContainerId,
}

#[async_trait]
impl LogSink for Follower {
    async fn take(&mut self, bytes: Vec<u8>) -> bool {
        self.sender.send(Pipe::Stdout, Bytes::from(bytes)).await
    }

    async fn is_running(&mut self) -> bool {
        self.runtime.container(&self.container).await.is_ok_and(|container| container.is_live())
    }
}

/// Serves a log to its end.
pub(super) async fn serve(request: LogsRequest, io: StreamIo, served: &Served) -> Result<Finish, Finish> {
    let target = request.target.clone().unwrap_or_default();
    let options = options(&request)?;
    let pod = served.pod(&target)?;
    let container = choose(served.containers(&pod, &target).await?, &target, request.previous)?;
    let file = format!("{}/{}.log", container.name, container.attempt);
    let path = log_directory(&served.log_root, &pod).join(file);
    // An empty frame says "this is a log" before the first line is there.
    io.send(Pipe::Stdout, Bytes::new()).await;
    let mut follower =
        Follower { sender: io.sender(), runtime: Arc::clone(&served.runtime), container: container.id };
    match read(&path, &options, &mut follower).await {
        Ok(()) => Ok(Finish { http_code: 200, message: String::new(), exit_code: None }),
        Err(error) => Err(refuse(500, error.to_string())),
    }
}

fn choose(
    newest_first: Vec<ContainerInfo>,
    target: &PodTarget,
    previous: bool,
) -> Result<ContainerInfo, Finish> {
    let (name, pod) = (&target.container, &target.name);
    let found = newest_first.into_iter().nth(usize::from(previous));
    found.ok_or_else(|| {
        if previous {
            refuse(400, format!("previous terminated container \"{name}\" in pod \"{pod}\" not found"))
        } else {
            refuse(
                400,
                format!("container \"{name}\" in pod \"{pod}\" is waiting to start: ContainerCreating"),
            )
        }
    })
}

fn options(request: &LogsRequest) -> Result<LogOptions, Finish> {
    let count = |value: Option<i64>| value.map(|value| u64::try_from(value).unwrap_or(0));
    let since_time = match request.since_time.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|error| refuse(400, format!("sinceTime {text:?}: {error}")))?),
    };
    let ago = |seconds| {
        Timestamp::now().saturating_sub(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MIN)
    };
    Ok(LogOptions {
        follow: request.follow,
        timestamps: request.timestamps,
        since: since_time.or_else(|| request.since_seconds.map(ago)),
        tail: count(request.tail_lines),
        limit_bytes: count(request.limit_bytes),
    })
}
