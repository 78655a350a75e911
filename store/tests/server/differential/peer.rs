//! A real etcd of one member, in memory as far as the machine has such a file system: what it promises about disks is not
//! compared here.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use proto::etcdserverpb as pb;
use tokio::process::Child;
use tonic::transport::Channel;

use super::generate::Dialect;
use crate::harness::etcd_command;

/// Longest start, on the slowest machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) struct Peer {
    child: Child,
    channel: Channel,
    version: String,
    _data: tempfile::TempDir,
}

impl Peer {
    pub(crate) async fn start(program: &Path) -> Self {
        let memory = Path::new("/dev/shm");
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("keelson-differential-");
        let data = if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() }.unwrap();
        let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [client, peer] = held.map(|listener| format!("http://{}", listener.local_addr().unwrap()));
        let child = etcd_command(program, data.path(), &client, &peer).spawn().unwrap();
        let channel = Channel::from_shared(client).unwrap().connect_lazy();
        let version = Self::wait(channel.clone()).await;
        Self { child, channel, version, _data: data }
    }

    /// Waits until it leads and returns its version.
    async fn wait(channel: Channel) -> String {
        let deadline = Instant::now() + START_TIMEOUT;
        let mut maintenance = pb::maintenance_client::MaintenanceClient::new(channel);
        loop {
            if let Ok(status) = maintenance.status(pb::StatusRequest {}).await
                && status.get_ref().leader != 0
            {
                return status.into_inner().version;
            }
            assert!(Instant::now() < deadline, "etcd does not start");
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn dialect(&self) -> Dialect {
        let old = ["3.4.", "3.5."];
        Dialect {
            checks_sort: !old.iter().any(|old| self.version.starts_with(old)),
            keeps_deletes_at_compaction: !self.version.starts_with("3.4."),
        }
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    pub(crate) async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }
}
