//! Our side: a member with its client port, and `keelson snapshot` as a person types it.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use clap::Parser;
use store::Member;
use store::backup::cli::Command;
use store::cli::CliError;
use store::config::Config;
use store::etcd::Edge;
use store::kv::Kv;

use super::content::Client;
use crate::harness::{Server, start_member, until};

/// A member that serves clients.
pub struct Ours {
    pub member: Arc<Member>,
    pub server: Server,
}

impl Ours {
    /// Starts the only member of its cluster.
    pub async fn alone(data_dir: &Path, port: u16) -> Self {
        let mut config = Config::single(data_dir.to_owned(), "m", &format!("127.0.0.1:{port}"));
        config.wal.segment_bytes = 1 << 20;
        let ours = Self::start(&config).await;
        ours.member.read_index().await.unwrap();
        ours
    }

    pub async fn start(config: &Config) -> Self {
        let member = start_member(config).await.unwrap();
        let server = Server::of(Edge::new(&member)).await;
        Self { member, server }
    }

    pub fn client(&self) -> Client {
        Client::new(self.server.channel())
    }

    /// Waits until it follows a leader or leads.
    pub async fn has_leader(&self) {
        until("a leader", async || (self.member.status().leader_id != 0).then_some(())).await;
    }

    pub async fn stop(self) {
        self.server.stop().await;
        self.member.stop().await;
    }
}

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Runs `keelson snapshot`; returns its error.
pub async fn snapshot<W: Into<OsString>>(words: impl IntoIterator<Item = W>) -> Result<(), CliError> {
    let words = std::iter::once("snapshot".into()).chain(words.into_iter().map(Into::into));
    store::backup::cli::run(Cli::parse_from(words).command).await
}

/// Returns the flags that make the only member of a cluster.
pub fn alone_at(data_dir: &Path, port: u16) -> Vec<String> {
    vec![
        format!("--data-dir={}", data_dir.display()),
        "--name=m".to_owned(),
        format!("--initial-cluster=m=http://127.0.0.1:{port}"),
        format!("--initial-advertise-peer-urls=http://127.0.0.1:{port}"),
    ]
}

/// Adds flags to words.
pub fn with(words: &[&str], flags: &[String]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).chain(flags.iter().cloned()).collect()
}
