//! The other side: real etcds of one member, and the tools beside them.

use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::process::Child;
use tonic::transport::Channel;

use super::content::Client;
use crate::harness::{etcd_command, free_port, until};

/// Returns the programs to exchange snapshots with.
pub fn peers() -> Vec<PathBuf> {
    if let Some(listed) = std::env::var_os("KEELSON_ETCD") {
        return std::env::split_paths(&listed).filter(|file| file.is_file()).collect();
    }
    on_path("etcd").into_iter().collect()
}

pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Ends with the test.
pub struct Etcd {
    child: Child,
    /// `host:port`.
    pub endpoint: String,
    pub version: String,
    channel: Channel,
}

impl Etcd {
    pub async fn start(program: &Path, data_dir: &Path, peer: u16) -> Self {
        let endpoint = format!("127.0.0.1:{}", free_port());
        let (client, peer) = (format!("http://{endpoint}"), format!("http://127.0.0.1:{peer}"));
        let child = etcd_command(program, data_dir, &client, &peer).spawn().unwrap();
        let channel = Channel::from_shared(client).unwrap().connect_lazy();
        until("an etcd that leads", async || Client::new(channel.clone()).is_served().await.then_some(()))
            .await;
        let said = run(program, &["--version"]);
        let version = said.lines().next().unwrap().trim_start_matches("etcd Version: ").to_owned();
        Self { child, endpoint, version, channel }
    }

    pub fn client(&self) -> Client {
        Client::new(self.channel.clone())
    }

    pub async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Runs one of etcd's tools and returns what it printed.
pub fn run(program: &Path, args: &[&str]) -> String {
    let output = Command::new(program).env("ETCDCTL_API", "3").args(args).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(output.status.success(), "{args:?}: {text}");
    text
}

/// Returns the tool that restores snapshots for a peer.
pub fn restorer(peer: &Path) -> Option<PathBuf> {
    let beside = ["etcdutl", "etcdctl"].map(|tool| peer.with_file_name(tool));
    beside.into_iter().find(|tool| tool.is_file())
}
