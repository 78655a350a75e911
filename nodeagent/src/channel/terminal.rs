//! Serves exec and attach: joins the server's stream and the runtime's.

use proto::keelson::{AttachRequest, Channel as Pipe, ExecRequest, Finish};

use super::connection::{Input, StreamIo};
use super::runtime_stream::{CommandEnd, FromRuntime, RuntimeStream};
use super::serve::{Served, refuse};
use crate::runtime::StreamRequest;

/// Runs a command and serves its streams.
pub(super) async fn exec(request: ExecRequest, io: StreamIo, served: &Served) -> Result<Finish, Finish> {
    let target = request.target.unwrap_or_default();
    let container = served.running(&target).await?.id;
    let stream = StreamRequest {
        container,
        command: Some(request.command),
        stdin: request.stdin,
        stdout: request.stdout,
        // A terminal has one output.
        stderr: request.stderr && !request.tty,
        tty: request.tty,
    };
    join(stream, io, served).await
}

/// Serves the streams of the running process.
pub(super) async fn attach(request: AttachRequest, io: StreamIo, served: &Served) -> Result<Finish, Finish> {
    let target = request.target.unwrap_or_default();
    let container = served.running(&target).await?.id;
    let stream = StreamRequest {
        container,
        command: None,
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr && !request.tty,
        tty: request.tty,
    };
    join(stream, io, served).await
}

async fn join(request: StreamRequest, mut io: StreamIo, served: &Served) -> Result<Finish, Finish> {
    let url = served.runtime.stream_url(&request).await.map_err(|error| refuse(500, error.to_string()))?;
    let mut runtime =
        RuntimeStream::open(&url, &request).await.map_err(|error| refuse(502, error.to_string()))?;
    let sender = io.sender();
    let mut input_open = true;
    loop {
        tokio::select! {
            said = runtime.next() => match said {
                Ok(FromRuntime::Stdout(bytes)) => if !sender.send(Pipe::Stdout, bytes).await { break },
                Ok(FromRuntime::Stderr(bytes)) => if !sender.send(Pipe::Stderr, bytes).await { break },
                Ok(FromRuntime::End(CommandEnd::Exited { code, message })) => {
                    return Ok(Finish { http_code: 200, message, exit_code: Some(code) });
                }
                Ok(FromRuntime::End(CommandEnd::Failed { message })) => return Err(refuse(500, message)),
                Err(error) => return Err(refuse(502, error.to_string())),
            },
            input = io.next(), if input_open => {
                let sent = match input {
                    Some(Input::Stdin(bytes)) => runtime.stdin(bytes).await,
                    Some(Input::StdinEnd) => runtime.close_stdin().await,
                    Some(Input::Resize { width, height }) => runtime.resize(width, height).await,
                    None => { input_open = false; Ok(()) }
                };
                sent.map_err(|error| refuse(502, error.to_string()))?;
            }
        }
    }
    Err(refuse(499, "the server is gone"))
}
