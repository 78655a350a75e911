//! A TCP pass-through to the live servers: kubectl cannot fail over inside a kubeconfig, so one address does it.
//!
//! A server that refuses or does not answer the connect in time is skipped; the one that worked last is asked first.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// A server on the same machine accepts within microseconds; one that has not by now is stopped or gone.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);

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
    /// Connects to the first server that answers, beginning with the one that worked last.
    async fn connect(&self) -> Option<TcpStream> {
        let first = self.preferred.load(Ordering::Relaxed);
        for offset in 0..self.servers.len() {
            let position = (first + offset) % self.servers.len();
            let Some(server) = self.servers.get(position) else { continue };
            if let Ok(Ok(stream)) = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(server)).await {
                self.preferred.store(position, Ordering::Relaxed);
                return Some(stream);
            }
        }
        None
    }
}

async fn carry(mut client: TcpStream, targets: Arc<Targets>) {
    let Some(mut server) = targets.connect().await else {
        debug!("no server accepts connections");
        return;
    };
    let _best_effort = (client.set_nodelay(true), server.set_nodelay(true));
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
        debug!(%error, "connection ended");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn a_dead_server_is_skipped() {
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead_address = dead.local_addr().unwrap();
        drop(dead);
        let live = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live_address = live.local_addr().unwrap();
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let front_address = front.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(super::run(front, vec![dead_address, live_address], shutdown.clone()));
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
}
