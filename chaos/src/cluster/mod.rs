//! The `real` driver: every member is a process in a network namespace of its own on this machine.
//!
//! All namespaces hang on one bridge in a hub namespace. The harness lives in the hub: its clients reach every member, and
//! rules on the bridge cut members from each other without touching the clients. Needs root.

mod command;
mod member;
mod network;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use futures::future::join_all;

pub use command::run as run_command;
pub use member::{Killed, Member};
pub use network::{Network, RUN_PREFIX};

use crate::etcd::MemberClient;
use crate::workload::Target;

/// Longest wait for a member that was started or healed.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two questions to a member that does not serve yet.
const READY_POLL: Duration = Duration::from_millis(100);
/// A member that is alive says at once who leads.
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);
/// The port of every member, each at its own address.
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// What the members run.
#[derive(Clone, Debug)]
pub struct Program {
    pub binary: PathBuf,
    /// Comes before etcd's flags: `store` for our own binary, nothing for etcd.
    pub subcommand: Option<&'static str>,
    /// Set for the members only.
    pub environment: Vec<(String, String)>,
}

impl Program {
    /// Names a binary. Everything but `etcd` is taken for ours.
    #[must_use]
    pub fn new(binary: &Path) -> Self {
        let is_etcd = binary.file_name().is_some_and(|name| name == "etcd");
        Self { binary: binary.to_owned(), subcommand: (!is_etcd).then_some("store"), environment: Vec::new() }
    }
}

/// The members of one run.
pub struct Cluster {
    pub members: Vec<Member>,
    clients: Vec<MemberClient>,
    /// Member ids, once each has told its own.
    ids: Vec<u64>,
}

impl Cluster {
    /// Starts all members and waits until each serves linearizable reads.
    ///
    /// # Errors
    /// When a process cannot be started or one does not serve in time.
    pub async fn start(program: &Program, network: &Network, folder: &Path) -> anyhow::Result<Self> {
        let names = network.names();
        let peer_url = |index: usize| format!("http://{}:{PEER_PORT}", network.address(index));
        let initial: Vec<String> =
            names.iter().enumerate().map(|(index, name)| format!("{name}={}", peer_url(index))).collect();
        let mut members = Vec::new();
        let mut clients = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let client_url = format!("http://{}:{CLIENT_PORT}", network.address(index));
            clients.push(MemberClient::new(&client_url)?);
            let mut arguments: Vec<String> = program.subcommand.map(str::to_owned).into_iter().collect();
            let data = folder.join("data").join(name);
            let mut flag = |name: &str, value: &str| arguments.push(format!("--{name}={value}"));
            flag("name", name);
            flag("data-dir", &data.to_string_lossy());
            flag("listen-client-urls", &client_url);
            flag("advertise-client-urls", &client_url);
            flag("listen-peer-urls", &peer_url(index));
            flag("initial-advertise-peer-urls", &peer_url(index));
            flag("initial-cluster", &initial.join(","));
            flag("initial-cluster-state", "new");
            flag("initial-cluster-token", network.run_id());
            let mut member = Member {
                name: name.clone(),
                namespace: network.namespace(index),
                program: program.clone(),
                arguments,
                log: folder.join(format!("{name}.log")),
                child: None,
            };
            std::fs::create_dir_all(data.parent().unwrap_or(folder))?;
            member.start()?;
            members.push(member);
        }
        let mut cluster = Self { members, clients, ids: Vec::new() };
        let silent = cluster.wait_ready().await;
        anyhow::ensure!(silent.is_empty(), "{} did not begin to serve: see its log", silent.join(", "));
        for client in &cluster.clients {
            let status = client.status().await.context("a member that serves has no status")?;
            cluster.ids.push(status.header.map_or(0, |header| header.member_id));
        }
        Ok(cluster)
    }

    /// Returns every member as clients see it.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        let named = self.members.iter().zip(&self.clients);
        named.map(|(member, client)| Target { name: member.name.clone(), client: client.clone() }).collect()
    }

    /// Returns the place of the leader, as the members with the newest term see it.
    pub async fn leader(&self) -> Option<usize> {
        let statuses =
            join_all(self.clients.iter().map(|client| tokio::time::timeout(STATUS_TIMEOUT, client.status())))
                .await;
        let known = statuses.into_iter().filter_map(|status| status.ok()?.ok());
        let newest = known.filter(|status| status.leader != 0).max_by_key(|status| status.raft_term)?;
        self.ids.iter().position(|id| *id == newest.leader)
    }

    /// Waits until every member serves linearizable reads; returns the names of those that do not.
    pub async fn wait_ready(&self) -> Vec<String> {
        let silent = join_all(self.targets().into_iter().map(|target| async move {
            let serving = async {
                while target.client.read("ready").await.is_err() {
                    tokio::time::sleep(READY_POLL).await;
                }
            };
            tokio::time::timeout(READY_TIMEOUT, serving).await.is_err().then_some(target.name)
        }))
        .await;
        silent.into_iter().flatten().collect()
    }

    /// Ends all members.
    pub async fn stop(&mut self) {
        for member in &mut self.members {
            // Their data is thrown away; a clean end would only cost time.
            let _ = member.kill().await;
        }
    }
}
