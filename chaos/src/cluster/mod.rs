//! The `real` driver: every member is a process in a network namespace of its own on this machine.
//!
//! All namespaces hang on one bridge in a hub namespace. The harness lives in the hub: its clients reach every member, and
//! rules on the bridge cut members from each other without touching the clients. Needs root.
//!
//! A member is a store alone, or a whole server of the `k8s` tier, whose store is reached in the same way.

mod clock;
mod command;
mod containers;
mod control_group;
mod control_plane;
mod cpu_quota;
mod delay_line;
mod disk;
mod disturbance;
mod link;
mod member;
mod network;
mod observe;
mod operator;
mod real_node;
mod throttle;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use futures::future::join_all;

pub use clock::Clock;
pub use command::run as run_command;
pub use containers::{container_processes, since_boot};
pub use control_plane::{Agents, LOST_AFTER};
pub use cpu_quota::{CpuQuota, Throttled};
pub use delay_line::{Delay, DelayLine};
pub use disk::{Backing, Disk, own_mounts};
pub use disturbance::Disturbance;
pub use member::{Killed, Member};
pub use network::{Host, Network, RUN_PREFIX, Way};
pub use operator::Replaced;
pub use real_node::{NodeList, RealNode};
pub use throttle::Throttle;

use crate::etcd::MemberClient;
use crate::kubernetes::Server;
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
    /// The library that gives each member a wall clock of its own, if it is to have one.
    pub clock_library: Option<PathBuf>,
}

impl Program {
    /// Names a binary. Everything but `etcd` is taken for ours.
    #[must_use]
    pub fn new(binary: &Path) -> Self {
        let is_etcd = binary.file_name().is_some_and(|name| name == "etcd");
        let subcommands: &[&str] = if is_etcd { &[] } else { &["store"] };
        Self { binary: binary.to_owned(), subcommands, environment: Vec::new(), clock_library: None }
    }

    /// Whether it is etcd.
    #[must_use]
    pub fn is_etcd(&self) -> bool {
        self.subcommands.is_empty()
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
    /// Processes that run nodes; none where members are stores alone.
    pub agents: Vec<Member>,
    /// The runtimes of agents with real containers. They go after their agents, which would start them again.
    pub nodes: Vec<RealNode>,
    node_list: Option<NodeList>,
    clients: Vec<MemberClient>,
    /// The API of each member, where members are whole servers.
    servers: Vec<Server>,
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
        let arguments = |place: &Place, data: &Path| {
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
            arguments
        };
        let mut cluster = Self::start_members(program, places, folder, arguments)?;
        cluster.learn_ids().await?;
        Ok(cluster)
    }

    /// Starts a process for each place.
    fn start_members(
        program: &Program,
        places: &[Place],
        folder: &Path,
        arguments: impl Fn(&Place, &Path) -> Vec<String>,
    ) -> anyhow::Result<Self> {
        let mut members = Vec::new();
        let mut clients = Vec::new();
        std::fs::create_dir_all(folder.join("data"))?;
        for place in places {
            clients.push(MemberClient::new(&place.client_url)?);
            let arguments = arguments(place, &folder.join("data").join(&place.name));
            let mut program = program.clone();
            let mut clock = None;
            if let Some(library) = &program.clock_library {
                let (own, environment) =
                    Clock::create(&folder.join(format!("{}.clock", place.name)), library)?;
                clock = Some(own);
                program.environment.extend(environment);
            }
            let mut member = Member {
                name: place.name.clone(),
                namespace: place.namespace.clone(),
                program,
                clock,
                arguments,
                log: folder.join(format!("{}.log", place.name)),
                child: None,
            };
            member.start()?;
            members.push(member);
        }
        let (places, data) = (places.to_vec(), folder.join("data"));
        let (agents, servers, ids) = (Vec::new(), Vec::new(), Vec::new());
        let (nodes, node_list) = (Vec::new(), None);
        Ok(Self { members, agents, nodes, node_list, clients, servers, places, data, ids })
    }

    /// Waits until every member serves, and asks each for its id.
    async fn learn_ids(&mut self) -> anyhow::Result<()> {
        self.wait_started().await?;
        for client in &self.clients {
            let status = client.status().await.context("a member that serves has no status")?;
            self.ids.push(status.header.map_or(0, |header| header.member_id));
        }
        Ok(())
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

    /// Returns the API of every member, as clients see it; nothing where members are stores alone.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Returns the data directory of the member at this place.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn directory(&self, index: usize) -> anyhow::Result<PathBuf> {
        Ok(self.data.join(&self.places.get(index).context("no such member")?.name))
    }

    /// Whether the members run etcd.
    #[must_use]
    pub fn is_etcd(&self) -> bool {
        self.members.first().is_some_and(|member| member.program.is_etcd())
    }

    /// Returns the folder that holds the members' data.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Returns where clients find the member at this place.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn client_url(&self, index: usize) -> anyhow::Result<&str> {
        Ok(&self.places.get(index).context("no such member")?.client_url)
    }

    /// Returns a client with a connection of its own to the member at this place.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn connect(&self, index: usize) -> anyhow::Result<MemberClient> {
        Ok(MemberClient::new(self.client_url(index)?)?)
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
            let server = self.servers.iter().find(|server| server.name == target.name);
            let serving = async {
                while !serves(&target.client, server).await {
                    tokio::time::sleep(READY_POLL).await;
                }
            };
            tokio::time::timeout(READY_TIMEOUT, serving).await.is_err().then_some(target.name)
        }))
        .await;
        silent.into_iter().flatten().collect()
    }

    /// Waits until one member serves linearizable reads; returns whether it does.
    pub async fn wait_serving(&self, index: usize) -> bool {
        let Ok(client) = self.connect(index) else { return false };
        let serving = async {
            while !serves(&client, self.servers.get(index)).await {
                tokio::time::sleep(READY_POLL).await;
            }
        };
        tokio::time::timeout(READY_TIMEOUT, serving).await.is_ok()
    }

    /// Ends all members, and what runs on nodes.
    pub async fn stop(&mut self) {
        for member in self.agents.iter_mut().chain(&mut self.members) {
            // Their data is thrown away; a clean end would only cost time.
            let _ = member.kill().await;
        }
        self.nodes.clear();
        self.node_list = None;
    }
}

/// Whether a member serves linearizable reads, and its API is ready, if it has one.
async fn serves(client: &MemberClient, server: Option<&Server>) -> bool {
    let is_read = client.read("ready").await.is_ok();
    match server {
        Some(server) if is_read => server.is_ready().await,
        Some(_) | None => is_read,
    }
}
