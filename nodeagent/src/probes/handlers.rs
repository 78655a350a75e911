//! The ways to ask a container: an HTTP request, a TCP connection, a command.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{
    Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use crate::runtime::{ContainerId, ExecRequest, Runtime};

/// Longest part of an answer that is kept for the event.
const MESSAGE_BYTES_MAX: usize = 256;

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Handler {
    /// A request that must be answered with 200 to 399.
    Http(HTTPGetAction),
    /// A connection that must open.
    Tcp(TCPSocketAction),
    /// A command that must exit with 0.
    Exec(ExecAction),
    /// A pause, in lifecycle hooks.
    Sleep(Duration),
    /// Something this agent cannot do.
    Unsupported(&'static str),
}

impl Handler {
    /// Returns a probe's handler.
    #[must_use]
    pub fn of_probe(probe: &Probe) -> Self {
        if let Some(get) = &probe.http_get {
            return Self::Http(get.clone());
        }
        if let Some(socket) = &probe.tcp_socket {
            return Self::Tcp(socket.clone());
        }
        if let Some(exec) = &probe.exec {
            return Self::Exec(exec.clone());
        }
        Self::Unsupported("grpc probes are not implemented yet")
    }

    /// Returns a lifecycle hook's handler.
    #[must_use]
    pub fn of_hook(hook: &LifecycleHandler) -> Self {
        if let Some(get) = &hook.http_get {
            return Self::Http(get.clone());
        }
        if let Some(exec) = &hook.exec {
            return Self::Exec(exec.clone());
        }
        if let Some(sleep) = &hook.sleep {
            return Self::Sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0)));
        }
        Self::Unsupported("this hook is not implemented yet")
    }
}

/// Who is asked.
#[derive(Clone)]
pub struct Target {
    /// The container.
    pub container: ContainerId,
    /// The pod's address.
    pub ip: Option<IpAddr>,
    /// Where port names are looked up.
    pub spec: Container,
    /// Runs commands.
    pub runtime: Arc<dyn Runtime>,
}

/// Asks once.
///
/// # Errors
/// Why the answer is not a success, for the event.
pub async fn run_handler(handler: &Handler, target: &Target, limit: Duration) -> Result<(), String> {
    let asked = async {
        match handler {
            Handler::Http(_) | Handler::Tcp(_) if !target.runtime.has_network() => Ok(()),
            Handler::Http(get) => http(get, target).await,
            Handler::Tcp(socket) => {
                let address = address(&socket.port, socket.host.as_deref(), target)?;
                TcpStream::connect(address)
                    .await
                    .map(drop)
                    .map_err(|error| format!("dial tcp {address}: {error}"))
            }
            Handler::Exec(exec) => command(exec, target, limit).await,
            Handler::Sleep(pause) => {
                tokio::time::sleep(*pause).await;
                Ok(())
            }
            Handler::Unsupported(what) => Err((*what).to_owned()),
        }
    };
    match tokio::time::timeout(limit, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

fn address(port: &IntOrString, host: Option<&str>, target: &Target) -> Result<SocketAddr, String> {
    let ip = match host.filter(|host| !host.is_empty()) {
        Some(host) => host.parse().map_err(|_| format!("host {host:?} is not an IP address"))?,
        None => target.ip.ok_or_else(|| "the pod has no address".to_owned())?,
    };
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => match name.parse() {
            Ok(number) => Some(number),
            Err(_) => {
                let ports = target.spec.ports.as_deref().unwrap_or_default();
                ports.iter().find(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port)
            }
        },
    };
    let number = number.and_then(|number| u16::try_from(number).ok());
    number.map(|number| SocketAddr::new(ip, number)).ok_or_else(|| format!("port {port:?} is not known"))
}

async fn http(get: &HTTPGetAction, target: &Target) -> Result<(), String> {
    if get.scheme.as_deref() == Some("HTTPS") {
        return Err("https probes are not implemented yet".to_owned());
    }
    let address = address(&get.port, get.host.as_deref(), target)?;
    let path = get.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut request =
        http::Request::get(&path).header("user-agent", "kube-probe/1.36").header("accept", "*/*");
    let mut host = address.to_string();
    for header in get.http_headers.iter().flatten() {
        if header.name.eq_ignore_ascii_case("host") {
            host.clone_from(&header.value);
        } else {
            request = request.header(&header.name, &header.value);
        }
    }
    let request = request.header("host", host).header("connection", "close").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let failed = |error: &dyn std::fmt::Display| format!("Get \"http://{address}{path}\": {error}");
    let stream = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let status = response.status();
        if status.is_success() || status.is_redirection() {
            return Ok(());
        }
        // The body is only words for the event; without it the status says enough.
        let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let words: String = String::from_utf8_lossy(&body).chars().take(MESSAGE_BYTES_MAX).collect();
        Err(format!(
            "HTTP probe failed with statuscode: {}{}{words}",
            status.as_u16(),
            if words.is_empty() { "" } else { ": " }
        ))
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(failed(&error)),
        },
    }
}

async fn command(exec: &ExecAction, target: &Target, limit: Duration) -> Result<(), String> {
    let command = exec.command.clone().unwrap_or_default();
    let request = ExecRequest { container: target.container.clone(), command, timeout: limit };
    let output = target.runtime.exec_sync(&request).await.map_err(|error| error.to_string())?;
    if output.code == 0 {
        return Ok(());
    }
    let mut words = output.stdout;
    words.extend(output.stderr);
    let words: String = String::from_utf8_lossy(&words).chars().take(MESSAGE_BYTES_MAX).collect();
    Err(format!("command exited with {}: {}", output.code, words.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::fake::{FakeImages, FakeRuntime, FakeTimes};
    use std::net::Ipv4Addr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn target() -> Target {
        let times = FakeTimes { sandbox: Duration::ZERO, container: Duration::ZERO };
        Target {
            container: ContainerId("none".to_owned()),
            ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            spec: Container::default(),
            runtime: Arc::new(FakeRuntime::new(FakeImages::All, times, Ipv4Addr::new(10, 0, 0, 1))),
        }
    }

    async fn server(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _read = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        port
    }

    async fn get(answer: &'static str) -> Result<(), String> {
        let port = IntOrString::Int(i32::from(server(answer).await));
        let handler = Handler::Http(HTTPGetAction {
            port,
            path: Some("/ready".to_owned()),
            ..HTTPGetAction::default()
        });
        run_handler(&handler, &target(), Duration::from_secs(10)).await
    }

    #[tokio::test]
    async fn http_status_decides() {
        assert_eq!(get("HTTP/1.1 204 No Content\r\n\r\n").await, Ok(()));
        let error = get("HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy").await.unwrap_err();
        assert_eq!(error, "HTTP probe failed with statuscode: 503: busy");
    }

    #[tokio::test]
    async fn closed_port_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = IntOrString::Int(i32::from(listener.local_addr().unwrap().port()));
        let handler = Handler::Tcp(TCPSocketAction { port, host: None });
        assert_eq!(run_handler(&handler, &target(), Duration::from_secs(10)).await, Ok(()));
        drop(listener);
        assert!(run_handler(&handler, &target(), Duration::from_secs(10)).await.is_err());
    }
}
