//! The runtime's side of an exec or attach: SPDY/3.1 with sub-protocol `v4.channel.k8s.io`, one stream per channel.
//!
//! SPDY and not WebSocket, because only here a channel can end by itself: a command that reads to the end of its input ends.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;
use transport::spdy::handshake::{Offer, connect};
use transport::spdy::{Session, SpdyError, StreamReader, StreamWriter};

use crate::runtime::StreamRequest;

const PROTOCOL: &str = "v4.channel.k8s.io";
/// Header that says which channel a stream is.
const STREAM_TYPE: &str = "streamtype";
/// Deadline for opening all streams; the runtime itself gives up after 30 s.
const OPEN_LIMIT: Duration = Duration::from_secs(30);

/// Why the runtime's stream failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    #[error("the runtime's stream address {0:?} is not usable")]
    Address(String),
    #[error("the runtime's stream: {0}")]
    Connect(#[from] std::io::Error),
    #[error("the runtime's stream: {0}")]
    Protocol(#[from] SpdyError),
    #[error("the runtime did not open its streams within {0:?}")]
    Slow(Duration),
    #[error("the runtime ended the stream without an exit status")]
    Ended,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CommandEnd {
    Exited {
        code: i32,
        message: String,
    },
    /// It did not run, for example because the image has no such program.
    Failed {
        message: String,
    },
}

/// What the runtime says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FromRuntime {
    Stdout(Bytes),
    Stderr(Bytes),
    End(CommandEnd),
}

/// An open stream to the runtime.
pub(super) struct RuntimeStream {
    stdin: Option<StreamWriter>,
    resize: Option<StreamWriter>,
    stdout: Option<StreamReader>,
    stderr: Option<StreamReader>,
    error: Option<StreamReader>,
    status: Vec<u8>,
    /// Readers alone do not keep a session: without this it would end with the input.
    _session: Session,
    _driver: AbortOnDropHandle<()>,
}

impl RuntimeStream {
    /// Connects to the address that the runtime gave for this request.
    pub(super) async fn open(url: &str, request: &StreamRequest) -> Result<Self, StreamError> {
        let opening = Self::open_all(url, request);
        tokio::time::timeout(OPEN_LIMIT, opening).await.map_err(|_| StreamError::Slow(OPEN_LIMIT))?
    }

    async fn open_all(url: &str, request: &StreamRequest) -> Result<Self, StreamError> {
        let bad = || StreamError::Address(url.to_owned());
        let rest = url.strip_prefix("http://").ok_or_else(bad)?;
        let at = rest.find('/').ok_or_else(bad)?;
        let (host, path) = rest.split_at(at);
        let connection = TcpStream::connect(host).await?;
        connection.set_nodelay(true)?;
        let (upgraded, _) = connect(connection, &Offer { host, path, protocols: &[PROTOCOL] }).await?;
        let (session, _, driver) = Session::client(upgraded);
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "the runtime's stream ended");
            }
        }));
        // The runtime waits for exactly the channels of the request; errors come first by convention.
        let (error, _) = open(&session, "error").await?;
        let mut stream = Self {
            stdin: None,
            resize: None,
            stdout: None,
            stderr: None,
            error: Some(error),
            status: Vec::new(),
            _session: session.clone(),
            _driver: driver,
        };
        if request.stdin {
            stream.stdin = Some(open(&session, "stdin").await?.1);
        }
        if request.stdout {
            stream.stdout = Some(open(&session, "stdout").await?.0);
        }
        if request.stderr {
            stream.stderr = Some(open(&session, "stderr").await?.0);
        }
        if request.tty {
            stream.resize = Some(open(&session, "resize").await?.1);
        }
        Ok(stream)
    }

    /// Returns what the runtime says next; the end comes after all output. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<FromRuntime, StreamError> {
        loop {
            if self.stdout.is_none() && self.stderr.is_none() && self.error.is_none() {
                let status = std::mem::take(&mut self.status);
                return if status.is_empty() {
                    Err(StreamError::Ended)
                } else {
                    Ok(FromRuntime::End(command_end(&status)))
                };
            }
            tokio::select! {
                bytes = read(&mut self.stdout) => if let Some(bytes) = bytes? { return Ok(FromRuntime::Stdout(bytes)) },
                bytes = read(&mut self.stderr) => if let Some(bytes) = bytes? { return Ok(FromRuntime::Stderr(bytes)) },
                bytes = read(&mut self.error) => if let Some(bytes) = bytes? { self.status.extend_from_slice(&bytes) },
            }
        }
    }

    /// Passes input on; a process that closed its input does not mind.
    pub(super) async fn stdin(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        match &self.stdin {
            Some(stdin) => Ok(stdin.write(bytes).await?),
            None => Ok(()),
        }
    }

    /// Says that no more input comes.
    pub(super) async fn close_stdin(&mut self) -> Result<(), StreamError> {
        match self.stdin.take() {
            Some(stdin) => Ok(stdin.finish().await?),
            None => Ok(()),
        }
    }

    /// Passes the terminal's size on.
    pub(super) async fn resize(&mut self, width: u32, height: u32) -> Result<(), StreamError> {
        let size = json!({ "Width": width, "Height": height }).to_string();
        match &self.resize {
            Some(resize) => Ok(resize.write(Bytes::from(size)).await?),
            None => Ok(()),
        }
    }
}

async fn open(session: &Session, kind: &str) -> Result<(StreamReader, StreamWriter), StreamError> {
    let headers = vec![(STREAM_TYPE.to_owned(), kind.to_owned())];
    Ok(session.open(headers).await?.split())
}

/// Reads a channel; its end closes it, and a closed one is silent.
async fn read(reader: &mut Option<StreamReader>) -> Result<Option<Bytes>, StreamError> {
    let Some(open) = reader else { return std::future::pending().await };
    let bytes = match open.read().await {
        // The runtime ends a session by resetting its streams, right after the exit status.
        Err(SpdyError::Reset(_)) => None,
        other => other?,
    };
    if bytes.is_none() {
        *reader = None;
    }
    Ok(bytes)
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    status: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Details,
}

#[derive(Deserialize, Default)]
struct Details {
    #[serde(default)]
    causes: Vec<Cause>,
}

#[derive(Deserialize)]
struct Cause {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

/// Reads the `metav1.Status` that ends a stream.
fn command_end(bytes: &[u8]) -> CommandEnd {
    let Ok(status) = serde_json::from_slice::<Status>(bytes) else {
        return CommandEnd::Failed { message: String::from_utf8_lossy(bytes).into_owned() };
    };
    if status.status == "Success" {
        return CommandEnd::Exited { code: 0, message: String::new() };
    }
    let cause = status.details.causes.iter().find(|cause| cause.reason == "ExitCode");
    let message = status.message;
    match cause.and_then(|cause| cause.message.parse().ok()) {
        Some(code) => CommandEnd::Exited { code, message },
        None => CommandEnd::Failed { message },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_read_from_the_status_object() {
        let failure = br#"{"status":"Failure","message":"exit 3","reason":"NonZeroExitCode",
            "details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;
        assert_eq!(command_end(failure), CommandEnd::Exited { code: 3, message: "exit 3".to_owned() });
        let success = br#"{"metadata":{},"status":"Success"}"#;
        assert_eq!(command_end(success), CommandEnd::Exited { code: 0, message: String::new() });
        let missing =
            br#"{"status":"Failure","message":"no such program","reason":"InternalError","code":500}"#;
        assert_eq!(command_end(missing), CommandEnd::Failed { message: "no such program".to_owned() });
        assert_eq!(command_end(b"gibberish"), CommandEnd::Failed { message: "gibberish".to_owned() });
    }
}
