//! `pods/exec` and `pods/attach`: a client's WebSocket or SPDY connection on one side, a stream to the node on the
//! other.
//!
//! Both client protocols become one [`Client`]; [`relay`] knows only that. The outcome travels as a Status on the
//! client's error channel.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use proto::keelson::{AttachRequest, Channel, ExecRequest, Finish, PodTarget, open};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::debug;
use transport::spdy;
use transport::websocket::{self, ChannelMessage, ChannelSocket, ChannelWriter, Handshake, Received};

use super::logs::{node_of, target};
use super::query::Query;
use super::{Rest, RestRequest};
use crate::endpoints::Call;
use crate::endpoints::status::Status;
use crate::node_channel::{FromNode, NodeStream, NodeWriter};
use crate::registry::Subresource;

/// Protocols that are spoken over SPDY, best first.
const SPDY_PROTOCOLS: [&str; 1] = ["v4.channel.k8s.io"];
/// A client opens its SPDY streams right after the upgrade.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(30);
/// Input read from a client and not yet taken by the node.
const INPUT_MESSAGES: usize = 16;

/// Which streams a client wants.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

/// What a client sends.
enum Input {
    Stdin(Bytes),
    StdinClosed,
    Resize(websocket::Size),
}

/// Where a client's output goes.
enum Output {
    WebSocket(ChannelWriter),
    Spdy { stdout: Option<spdy::StreamWriter>, stderr: Option<spdy::StreamWriter>, error: spdy::StreamWriter },
}

/// A connected client. Its input ends when the client is gone.
struct Client {
    input: mpsc::Receiver<Input>,
    output: Output,
}

impl Rest {
    pub(super) async fn terminal(
        &self,
        call: &Call,
        subresource: Subresource,
        mut request: RestRequest,
    ) -> Result<Response<Body>, Status> {
        let wanted = wanted(&request.query)?;
        let pod = self.api.read(call).await?;
        let target = target(call, &pod, request.query.get("container"))?;
        let node = node_of(call, &pod)?;
        let headers = &request.parts.headers;
        let web_socket = Handshake::from_headers(headers);
        let spdy_protocol = spdy::handshake::is_upgrade(headers)
            .then(|| spdy::handshake::choose(headers, &SPDY_PROTOCOLS))
            .flatten();
        let response = match (&web_socket, spdy_protocol) {
            (Some(handshake), _) => handshake.accept(),
            (None, Some(protocol)) => spdy::handshake::accept(protocol),
            (None, None) => return Err(no_upgrade(headers)),
        };
        let upgrade = request
            .parts
            .extensions
            .remove::<OnUpgrade>()
            .ok_or_else(|| Status::bad_request("this connection cannot be upgraded; use HTTP/1.1"))?;
        let open = open_request(subresource, target, wanted, request.query.all("command"));
        // Opened before the answer, so that an unreachable node is a plain error.
        let stream = self.api.nodes.open(&node, open).await?;
        let (shutdown, tasks) = (self.shutdown.clone(), self.tasks.clone());
        let is_spdy = web_socket.is_none();
        self.tasks.spawn(async move {
            let serve = async {
                let upgraded = upgrade.await.map_err(|error| error.to_string())?;
                let client = match is_spdy {
                    true => spdy_client(upgraded, wanted, &tasks).await?,
                    false => web_socket_client(upgraded, &tasks).await,
                };
                relay(stream, client).await
            };
            let ended = tokio::select! {
                ended = serve => ended,
                () = shutdown.cancelled() => Err("server is stopping".to_owned()),
            };
            if let Err(error) = ended {
                debug!(error, "terminal ended");
            }
        });
        Ok(response)
    }
}

fn wanted(query: &Query) -> Result<Wanted, Status> {
    let (stdin, stdout, tty) = (query.flag("stdin"), query.flag("stdout"), query.flag("tty"));
    // A terminal has one output.
    let stderr = query.flag("stderr") && !tty;
    if stdin || stdout || stderr {
        return Ok(Wanted { stdin, stdout, stderr, tty });
    }
    Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"))
}

fn no_upgrade(headers: &http::HeaderMap) -> Status {
    if Handshake::is_upgrade(headers) || spdy::handshake::is_upgrade(headers) {
        return Status::forbidden_protocol(
            "the client offers no stream protocol of this server (v5 or v4.channel.k8s.io)",
        );
    }
    Status::bad_request("Upgrade request required")
}

fn open_request(
    subresource: Subresource,
    target: PodTarget,
    wanted: Wanted,
    command: &[String],
) -> open::Request {
    let Wanted { stdin, stdout, stderr, tty } = wanted;
    if subresource == Subresource::Attach {
        return open::Request::Attach(AttachRequest { target: Some(target), stdin, stdout, stderr, tty });
    }
    open::Request::Exec(ExecRequest {
        target: Some(target),
        command: command.to_vec(),
        stdin,
        stdout,
        stderr,
        tty,
    })
}

/// Carries bytes both ways until the node has finished or the client is gone.
async fn relay(mut stream: NodeStream, client: Client) -> Result<(), String> {
    let Client { input, mut output } = client;
    let upstream = send_input(stream.writer(), input);
    tokio::pin!(upstream);
    let finish = loop {
        tokio::select! {
            // The input ends only with the client.
            ended = &mut upstream => return ended.map_err(|status| status.message),
            from_node = stream.next() => match from_node {
                Ok(FromNode::Data(channel, bytes)) => output.write(channel, bytes).await?,
                Ok(FromNode::Finish(finish)) => break finish,
                Err(status) => break Finish { http_code: 502, message: status.message, exit_code: None },
            },
        }
    };
    output.finish(&outcome(&finish)).await
}

async fn send_input(writer: NodeWriter, mut input: mpsc::Receiver<Input>) -> Result<(), Status> {
    while let Some(message) = input.recv().await {
        match message {
            Input::Stdin(bytes) => writer.stdin(bytes).await?,
            Input::StdinClosed => writer.close_stdin().await?,
            Input::Resize(size) => writer.resize(size.width, size.height).await?,
        }
    }
    Ok(())
}

/// Returns the Status for the error channel.
fn outcome(finish: &Finish) -> Value {
    match (finish.http_code, finish.exit_code) {
        (200, None | Some(0)) => json!({"metadata": {}, "status": "Success"}),
        (200, Some(code)) => json!({
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        (code, _) => json!({
            "metadata": {}, "status": "Failure", "reason": "InternalError", "code": code, "message": finish.message,
        }),
    }
}

impl Output {
    async fn write(&mut self, channel: Channel, bytes: Bytes) -> Result<(), String> {
        match self {
            Self::WebSocket(writer) => {
                let number = if channel == Channel::Stderr { websocket::STDERR } else { websocket::STDOUT };
                writer.send(number, bytes).await.map_err(|error| error.to_string())
            }
            Self::Spdy { stdout, stderr, .. } => {
                let writer = if channel == Channel::Stderr { stderr } else { stdout };
                match writer {
                    Some(writer) => writer.write(bytes).await.map_err(|error| error.to_string()),
                    None => Ok(()),
                }
            }
        }
    }

    async fn finish(mut self, status: &Value) -> Result<(), String> {
        let status = Bytes::from(status.to_string());
        match &mut self {
            Self::WebSocket(writer) => {
                writer.send(websocket::ERROR, status).await.map_err(|error| error.to_string())?;
                writer.close().await.map_err(|error| error.to_string())
            }
            Self::Spdy { stdout, stderr, error } => {
                for writer in [stdout, stderr].into_iter().flatten() {
                    writer.finish().await.map_err(|error| error.to_string())?;
                }
                error.write(status).await.map_err(|error| error.to_string())?;
                error.finish().await.map_err(|error| error.to_string())
            }
        }
    }
}

async fn web_socket_client(upgraded: Upgraded, tasks: &tokio_util::task::TaskTracker) -> Client {
    let (mut reader, writer) = ChannelSocket::server(upgraded).await.split();
    let (sender, input) = mpsc::channel(INPUT_MESSAGES);
    tasks.spawn(async move {
        while let Ok(Received::Message(message)) = reader.next().await {
            let message = match message {
                ChannelMessage::Data { channel: websocket::STDIN, bytes } => Input::Stdin(bytes),
                ChannelMessage::Data { channel: websocket::RESIZE, bytes } => {
                    match websocket::parse_size(&bytes) {
                        Some(size) => Input::Resize(size),
                        None => continue,
                    }
                }
                ChannelMessage::Close { channel: websocket::STDIN } => Input::StdinClosed,
                ChannelMessage::Data { .. } | ChannelMessage::Close { .. } => continue,
            };
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
    Client { input, output: Output::WebSocket(writer) }
}

/// Waits for the streams that the client must open, and runs its session.
async fn spdy_client(
    upgraded: Upgraded,
    wanted: Wanted,
    tasks: &tokio_util::task::TaskTracker,
) -> Result<Client, String> {
    let (session, mut incoming, run) = spdy::Session::server(TokioIo::new(upgraded));
    tasks.spawn(async move {
        if let Err(error) = run.await {
            debug!(%error, "SPDY session ended");
        }
    });
    let mut streams = std::collections::BTreeMap::new();
    let mut needed = vec!["error"];
    for (name, is_wanted) in [
        ("stdin", wanted.stdin),
        ("stdout", wanted.stdout),
        ("stderr", wanted.stderr),
        ("resize", wanted.tty),
    ] {
        if is_wanted {
            needed.push(name);
        }
    }
    let collect = async {
        while !needed.iter().all(|name| streams.contains_key(*name)) {
            let stream = incoming.next().await.ok_or("client left before it opened its streams")?;
            let name = spdy::headers::get(stream.headers(), "streamtype").unwrap_or_default().to_owned();
            streams.insert(name, stream);
        }
        Ok::<_, &str>(())
    };
    tokio::time::timeout(STREAMS_TIMEOUT, collect).await.map_err(|_| "client did not open its streams")??;
    let (sender, input) = mpsc::channel(INPUT_MESSAGES);
    let sender = Arc::new(sender);
    let mut take = |name: &str| streams.remove(name).map(spdy::Stream::split);
    if let Some((reader, _)) = take("stdin") {
        tasks.spawn(read_spdy_stdin(reader, Arc::clone(&sender)));
    }
    if let Some((reader, _)) = take("resize") {
        tasks.spawn(read_spdy_sizes(reader, Arc::clone(&sender)));
    }
    let (error_reader, error) = take("error").ok_or("client opened no error stream")?;
    // The error stream is open as long as the client is there; holding the input open ties its end to the client's.
    tasks.spawn(hold_while_connected(error_reader, sender, session));
    let writer = |split: Option<(spdy::StreamReader, spdy::StreamWriter)>| split.map(|(_, writer)| writer);
    let (stdout, stderr) = (writer(take("stdout")), writer(take("stderr")));
    Ok(Client { input, output: Output::Spdy { stdout, stderr, error } })
}

async fn read_spdy_stdin(mut reader: spdy::StreamReader, sender: Arc<mpsc::Sender<Input>>) {
    while let Ok(Some(bytes)) = reader.read().await {
        if sender.send(Input::Stdin(bytes)).await.is_err() {
            return;
        }
    }
    let _relay_is_done = sender.send(Input::StdinClosed).await;
}

async fn read_spdy_sizes(mut reader: spdy::StreamReader, sender: Arc<mpsc::Sender<Input>>) {
    while let Ok(Some(bytes)) = reader.read().await {
        if let Some(size) = websocket::parse_size(&bytes)
            && sender.send(Input::Resize(size)).await.is_err()
        {
            return;
        }
    }
}

async fn hold_while_connected(
    mut error: spdy::StreamReader,
    sender: Arc<mpsc::Sender<Input>>,
    session: spdy::Session,
) {
    // kubectl closes its sending side of the error stream at once, so its end says nothing; the session's end does.
    while let Ok(Some(_)) = error.read().await {}
    tokio::select! {
        () = sender.closed() => {}
        () = session.closed() => {}
    }
}
