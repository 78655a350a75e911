//! The agent's side: answers its plugin on a unix socket.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::protocol::{Answer, LINE_BYTES_MAX, PodAddress, Request, SandboxNetwork, Verb};

/// Deadline of one request; containerd itself gives a sandbox two minutes.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// What sets up and removes pod networks: the agent's pod network, or a double in tests.
#[async_trait]
pub trait NetworkProvider: Send + Sync + std::fmt::Debug {
    /// Gives a sandbox its network. A repeat for the same sandbox returns the same address.
    async fn add(&self, sandbox: &SandboxNetwork) -> anyhow::Result<PodAddress>;
    /// Takes a sandbox's network away; what is gone is fine.
    async fn remove(&self, sandbox: &SandboxNetwork) -> anyhow::Result<()>;
}

/// The listening side of the plugin's socket.
#[derive(Debug)]
pub struct CniServer {
    listener: UnixListener,
}

impl CniServer {
    /// Binds the socket, replacing what a killed agent left.
    ///
    /// # Errors
    /// When the socket cannot be bound.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self { listener: UnixListener::bind(path)? })
    }

    /// Answers until the token is cancelled.
    pub async fn serve(self, provider: Arc<dyn NetworkProvider>, shutdown: CancellationToken) {
        let mut requests = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => { requests.spawn(answer_one(stream, Arc::clone(&provider))); }
                    Err(error) => tracing::warn!(%error, "network plugin socket"),
                },
                Some(_) = requests.join_next() => {}
            }
        }
        while requests.join_next().await.is_some() {}
    }
}

async fn answer_one(stream: UnixStream, provider: Arc<dyn NetworkProvider>) {
    let served = tokio::time::timeout(REQUEST_LIMIT, exchange(stream, provider)).await;
    match served {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "network plugin request"),
        Err(_) => tracing::warn!("network plugin request took too long"),
    }
}

async fn exchange(stream: UnixStream, provider: Arc<dyn NetworkProvider>) -> anyhow::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read).take(LINE_BYTES_MAX).read_line(&mut line).await?;
    let request: Request = serde_json::from_str(&line)?;
    let answer = handle(&request, provider.as_ref()).await;
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await?;
    Ok(())
}

async fn handle(request: &Request, provider: &dyn NetworkProvider) -> Answer {
    let outcome = match request.verb {
        Verb::Add => provider.add(&request.sandbox).await.map(Answer::Address),
        Verb::Del => provider.remove(&request.sandbox).await.map(|()| Answer::Done),
        Verb::Check => Ok(Answer::Done),
    };
    outcome.unwrap_or_else(|error| {
        tracing::warn!(verb = ?request.verb, pod = %request.sandbox.pod_name, %error, "pod network");
        Answer::Failed(format!("{error:#}"))
    })
}
