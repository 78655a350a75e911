//! What members say of themselves beside the API of keys.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Cluster, STATUS_TIMEOUT};

impl Cluster {
    /// Returns the last entry of the log that any member has; zero when nobody answers.
    pub async fn last_entry(&self) -> u64 {
        let asked = self.clients.iter().map(|client| tokio::time::timeout(STATUS_TIMEOUT, client.status()));
        let answered =
            futures::future::join_all(asked).await.into_iter().filter_map(|status| status.ok()?.ok());
        answered.map(|status| status.raft_index).max().unwrap_or(0)
    }

    /// Returns a number that a member's `/metrics` has without labels; `None` when it does not answer, or has none of that name.
    pub async fn metric(&self, index: usize, name: &str) -> Option<u64> {
        let address = self.client_url(index).ok()?.strip_prefix("http://")?;
        let asking = async {
            let mut stream = TcpStream::connect(address).await.ok()?;
            let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
        };
        tokio::time::timeout(STATUS_TIMEOUT, asking).await.ok()?
    }
}
