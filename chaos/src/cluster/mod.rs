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
/// Between two looks whether a member that was started has ended.
const START_ROUND: Duration = Duration::from_secs(1);
/// Between two questions to a member that does not serve yet.
const READY_POLL: Duration = Duration::from_millis(100);
/// A member that is alive says at once who leads.
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);

/// What the members run.
#[derive(Clone, Debug)]
pub struct Program {
    pub binary: PathBuf,
    /// Come before etcd's flags: `store` for our own binary, nothing for etcd.
    pub subcommands: &'static [&'static str],
    /// Set for the members only.
    pub environment: Vec<(String, String)>,
}

impl Program {
    /// Names a binary. Everything but `etcd` is taken for ours.
    #[must_use]
    pub fn new(binary: &Path) -> Self {
        let is_etcd = binary.file_name().is_some_and(|name| name == "etcd");
        let subcommands: &[&str] = if is_etcd { &[] } else { &["store"] };
        Self { binary: binary.to_owned(), subcommands, environment: Vec::new() }
    }
}

/// Where a member lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub name: String,
    pub client_url: String,
    pub peer_url: String,
    /// Its network namespace; `None` for the harness's own.
    pub namespace: Option<String>,
}

/// The members of one run.
pub struct Cluster {
    pub members: Vec<Member>,
    clients: Vec<MemberClient>,
    places: Vec<Place>,
    data: PathBuf,
    /// Member ids, once each has told its own.
    ids: Vec<u64>,
}

impl Cluster {
    /// Starts all members and waits until each serves linearizable reads.
    ///
    /// # Errors
    /// When a process cannot be started or one does not serve in time.
    pub async fn start(
        program: &Program,
        places: &[Place],
        token: &str,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let initial: Vec<String> =
            places.iter().map(|place| format!("{}={}", place.name, place.peer_url)).collect();
        let mut members = Vec::new();
        let mut clients = Vec::new();
        std::fs::create_dir_all(folder.join("data"))?;
        for place in places {
            clients.push(MemberClient::new(&place.client_url)?);
            let data = folder.join("data").join(&place.name);
            let mut arguments: Vec<String> =
                program.subcommands.iter().map(|word| (*word).to_owned()).collect();
            let mut flag = |name: &str, value: &str| arguments.push(format!("--{name}={value}"));
            flag("name", &place.name);
            flag("data-dir", &data.to_string_lossy());
            flag("listen-client-urls", &place.client_url);
            flag("advertise-client-urls", &place.client_url);
            flag("listen-peer-urls", &place.peer_url);
            flag("initial-advertise-peer-urls", &place.peer_url);
            flag("initial-cluster", &initial.join(","));
            flag("initial-cluster-state", "new");
            flag("initial-cluster-token", token);
            let mut member = Member {
                name: place.name.clone(),
                namespace: place.namespace.clone(),
                program: program.clone(),
                arguments,
                log: folder.join(format!("{}.log", place.name)),
                child: None,
            };
            member.start()?;
            members.push(member);
        }
        let mut cluster =
            Self { members, clients, places: places.to_vec(), data: folder.join("data"), ids: Vec::new() };
        cluster.wait_started().await?;
        for client in &cluster.clients {
            let status = client.status().await.context("a member that serves has no status")?;
            cluster.ids.push(status.header.map_or(0, |header| header.member_id));
        }
        Ok(cluster)
    }

    /// Waits until every member serves, or one has ended: that one would never.
    async fn wait_started(&mut self) -> anyhow::Result<()> {
        let began = tokio::time::Instant::now();
        loop {
            let round = tokio::time::timeout(START_ROUND, self.wait_ready()).await;
            if round.is_ok_and(|silent| silent.is_empty()) {
                return Ok(());
            }
            for member in &mut self.members {
                if let Some(status) = member.ended() {
                    anyhow::bail!("{} ended ({status}): {}", member.name, member.last_words());
                }
            }
            anyhow::ensure!(began.elapsed() < READY_TIMEOUT, "members do not serve within {READY_TIMEOUT:?}");
        }
    }

    /// Returns every member as clients see it.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        let named = self.members.iter().zip(&self.clients);
        named.map(|(member, client)| Target { name: member.name.clone(), client: client.clone() }).collect()
    }

    /// Returns the folder that holds the members' data.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Returns a client with a connection of its own to the member at this place.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn connect(&self, index: usize) -> anyhow::Result<MemberClient> {
        let place = self.places.get(index).context("no such member")?;
        Ok(MemberClient::new(&place.client_url)?)
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
