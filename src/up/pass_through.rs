//! A TCP pass-through to the live servers: kubectl cannot fail over inside a kubeconfig, so one address does it.
//!
//! A server that refuses, or does not answer in time, is skipped; the one that worked last is asked first. The kernel accepts
//! connections for a process that stands still, so a connection alone says nothing: what counts is the first byte that comes back.
//! Clients speak TLS and so speak first, and what they say before that byte can be said to another server as well.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// A server on the same machine accepts within microseconds; one that has not by now is stopped or gone.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);

/// A server answers a greeting within milliseconds; one on a busy machine may need more. The last one that is tried has no limit.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Most that a client says before it is answered: a TLS greeting has a few hundred bytes, with new key exchanges two thousand.
const GREETING_BYTES_MAX: usize = 64 * 1024;

/// Connections carried at once; more wait in the listen queue.
const CONNECTIONS_MAX: usize = 4096;

/// Carries connections until `shutdown`.
pub async fn run(listener: TcpListener, servers: Vec<SocketAddr>, shutdown: CancellationToken) {
    let targets = Arc::new(Targets { servers, preferred: AtomicUsize::new(0) });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_finished) = connections.join_next(), if connections.len() >= CONNECTIONS_MAX => {}
            accepted = listener.accept() => match accepted {
                Ok((client, _from)) => {
                    while connections.try_join_next().is_some() {}
                    connections.spawn(carry(client, Arc::clone(&targets)));
                }
                Err(error) => debug!(%error, "accept failed"),
            },
        }
    }
    connections.shutdown().await;
}

struct Targets {
    servers: Vec<SocketAddr>,
    preferred: AtomicUsize,
}

impl Targets {
    /// Finds the first server that answers what the client says, beginning with the one that worked last.
    ///
    /// # Errors
    /// When the client is gone or no server answers.
    async fn introduce(&self, client: &mut TcpStream) -> io::Result<TcpStream> {
        let mut greeting = Vec::new();
        if client.read_buf(&mut greeting).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let first = self.preferred.load(Ordering::Relaxed);
        for offset in 0..self.servers.len() {
            let position = (first + offset) % self.servers.len();
            let Some(server) = self.servers.get(position) else { continue };
            let Ok(Ok(mut stream)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(server)).await else {
                continue;
            };
            let is_last = offset + 1 == self.servers.len();
            let deadline = (!is_last).then(|| Instant::now() + ANSWER_TIMEOUT);
            if greet(client, &mut stream, &mut greeting, deadline).await? == Answer::Came {
                self.preferred.store(position, Ordering::Relaxed);
                return Ok(stream);
            }
        }
        Err(io::Error::new(io::ErrorKind::NotConnected, "no server answers"))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Came,
    /// The server was silent for too long, or is gone.
    Missing,
}

/// Passes the greeting on, and what else the client says, until the server has an answer; the answer is left to be read.
///
/// # Errors
/// When the client is gone or says too much.
async fn greet(
    client: &mut TcpStream,
    server: &mut TcpStream,
    greeting: &mut Vec<u8>,
    deadline: Option<Instant>,
) -> io::Result<Answer> {
    let mut passed = 0;
    loop {
        let news = greeting.get(passed..).unwrap_or_default();
        if server.write_all(news).await.is_err() {
            return Ok(Answer::Missing);
        }
        passed = greeting.len();
        tokio::select! {
            answer = answer(server, deadline) => return Ok(answer),
            read = client.read_buf(greeting) => {
                if read? == 0 || greeting.len() > GREETING_BYTES_MAX {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
}

async fn answer(server: &TcpStream, deadline: Option<Instant>) -> Answer {
    let mut first = [0];
    let peek = server.peek(&mut first);
    let peeked = match deadline {
        Some(deadline) => timeout_at(deadline, peek).await,
        None => Ok(peek.await),
    };
    if matches!(peeked, Ok(Ok(1..))) { Answer::Came } else { Answer::Missing }
}

async fn carry(mut client: TcpStream, targets: Arc<Targets>) {
    let _best_effort = client.set_nodelay(true);
    let mut server = match targets.introduce(&mut client).await {
        Ok(server) => server,
        Err(error) => return debug!(%error, "connection refused"),
    };
    let _best_effort = server.set_nodelay(true);
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
        debug!(%error, "connection ended");
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::sync::CancellationToken;

    /// Sends a word through a front to these servers, of which `live` sends back what it reads.
    async fn check(live: TcpListener, servers: Vec<SocketAddr>) {
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let front_address = front.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(super::run(front, servers, shutdown.clone()));
        let echo = tokio::spawn(async move {
            let (mut stream, _) = live.accept().await.unwrap();
            let mut word = [0; 4];
            stream.read_exact(&mut word).await.unwrap();
            stream.write_all(&word).await.unwrap();
        });
        let mut client = TcpStream::connect(front_address).await.unwrap();
        client.write_all(b"ping").await.unwrap();
        let mut word = [0; 4];
        client.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"ping");
        echo.await.unwrap();
        shutdown.cancel();
        task.await.unwrap();
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn a_dead_server_is_skipped() {
        let (dead, dead_address) = listener().await;
        drop(dead);
        let (live, live_address) = listener().await;
        check(live, vec![dead_address, live_address]).await;
    }

    #[tokio::test]
    async fn a_server_that_stands_still_is_skipped() {
        // Nobody accepts, but the kernel does.
        let (_still, still_address) = listener().await;
        let (live, live_address) = listener().await;
        check(live, vec![still_address, live_address]).await;
    }
}
