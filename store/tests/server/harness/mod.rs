//! What tests of the store share: a client port over any store, clusters of members with real files and sockets, the program with
//! its flags, and the originals: etcd and etcdctl.

mod certificates;
mod cluster;
mod etcd;
mod etcdctl;
mod ports;
mod program;
mod server;

use std::io::Write;
use std::time::{Duration, Instant};

pub use certificates::Certificates;
pub use cluster::{Cluster, config, start_member, write};
pub use etcd::etcd_command;
pub use etcdctl::{Etcdctl, Running, next_line};
pub use ports::free_port;
pub use program::{GUEST, Program, Secured};
pub use server::Server;

/// Everything must happen in this time; a loaded machine needs slack.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until something is there.
pub async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Says that a test finds nothing to run on; past the capture of output, because the test runner counts these lines.
pub fn skip(why: &str) {
    std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes()).unwrap();
}

pub fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}
