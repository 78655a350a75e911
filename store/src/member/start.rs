//! From settings to a running member, and back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::join::{self, JoinError};
use super::observer::MemberObserver;
use super::room::Limits;
use super::space::Space;
use super::upkeep::Upkeep;
use super::{AutoCompaction, Leases, auto_compaction, bootstrap, divergence, level, serve};
use crate::backup::Spool;
use crate::config::{Config, Join, Timing};
use crate::directory::{Directory, DirectoryError, StoredDivergence, StoredIdentity};
use crate::env::engines::FsEngines;
use crate::env::{Env, EnvParts, Fatal, Place};
use crate::guarded::Sessions;
use crate::kv::RequestLimits;
use crate::level::Levels;
use crate::metrics::Counters;
use crate::mvcc::{Collection, Revision};
use crate::net::{Net, TcpNet};
use crate::raft::network::Identity;
use crate::raft::node::{Node, NodeConfig, StartError};
use crate::raft::types::Member as MemberInfo;
use crate::wal::WalConfig;
use crate::wal::disk_fs::FsDisk;
use crate::watch::{self, Hub};

/// How often a member looks whether a compaction has left rows to remove.
const COLLECT_IDLE: Duration = Duration::from_secs(1);
/// Between two steps at least, so that applying comes first.
const COLLECT_PAUSE_MIN: Duration = Duration::from_millis(1);
/// How much longer it rests than it works: what clients ask for needs the processors, too. Rows go faster all the same than a member takes
/// new ones.
const COLLECT_REST: u32 = 8;

/// One, so that handing work from task to task wakes no other thread. What keeps a thread busy gives this place away first
/// (`Env::aside`), so heartbeats go on meanwhile.
const RAFT_THREADS: usize = 1;

/// Name of the threads that raft and what it applies run on. A panic there must end the process: what is left of the member would
/// vote and never answer.
pub const RAFT_THREAD: &str = "raft";

/// How long a stopping member waits for work that blocks a thread, such as a snapshot on its way to another member.
const RUNTIME_END_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a member cannot start.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("cannot listen for peers on {address}")]
    Listen { address: String, source: std::io::Error },
    #[error("the initial cluster does not name this member with its peer URLs")]
    NotInCluster,
    #[error("cannot join the cluster")]
    Join(#[from] JoinError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot start raft's threads")]
    Runtime(#[source] std::io::Error),
}

/// Settings of a member in any environment.
pub struct MemberConfig {
    pub cluster_id: u64,
    pub member_id: u64,
    /// Random number of the data directory.
    pub incarnation: u64,
    pub name: String,
    pub listen_peer: String,
    pub client_urls: Vec<String>,
    /// Names and peer URLs of the initial members by id; empty for a member that joins later.
    pub initial: BTreeMap<u64, (String, Vec<String>)>,
    /// Peer URLs of others, where one that joins publishes itself.
    pub contacts: Vec<String>,
    pub timing: Timing,
    pub wal: WalConfig,
    pub snapshot_entries: u64,
    /// Entries kept behind a snapshot; `None` for the default.
    pub entries_kept: Option<u64>,
    /// Most that rows may take; 0 for no quota.
    pub quota_bytes: u64,
    /// Free bytes of the disk below which nothing is added; `None` for what suits the disk.
    pub disk_reserve_bytes: Option<u64>,
    /// How often members compare what they hold; zero for never.
    pub compare_interval: Duration,
    pub auto_compaction: AutoCompaction,
    /// How long a simple token lives from its last use.
    pub token_ttl: Duration,
    /// Requests that take longer are logged.
    pub slow_after: Duration,
    /// How large a request may be.
    pub limits: RequestLimits,
    /// What is kept for watches that are behind.
    pub watches: watch::Limits,
    /// Feature levels that the member can be at.
    pub levels: Levels,
}

/// A running member of the replicated store.
///
/// It serves [`crate::kv::Kv`]. End it with [`Member::stop`]; dropping it ends it too, but as a crash does: without a farewell to
/// the others, and what was not yet durable is lost.
pub struct Member {
    pub(super) node: Arc<Node>,
    pub(super) hub: Arc<Hub>,
    pub(super) leases: Arc<Leases>,
    pub(super) space: Arc<Space>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) spool: Spool,
    pub(super) limits: RequestLimits,
    peer_address: Option<SocketAddr>,
    stop: CancellationToken,
    runtime: Mutex<Option<Runtime>>,
}

/// What a started member is made of, beside its node.
struct Parts {
    hub: Arc<Hub>,
    leases: Arc<Leases>,
    space: Arc<Space>,
    sessions: Arc<Sessions>,
    limits: RequestLimits,
    peer_address: Option<SocketAddr>,
    stop: CancellationToken,
}

impl Parts {
    fn into_member(self, node: Arc<Node>, runtime: Option<Runtime>) -> Member {
        let Self { hub, leases, space, sessions, limits, peer_address, stop } = self;
        let (spool, runtime) = (Spool::default(), Mutex::new(runtime));
        Member { node, hub, leases, space, sessions, spool, limits, peer_address, stop, runtime }
    }
}

/// A runtime that may be dropped anywhere: its tasks have ended by then, or the process does.
struct Runtime(Option<tokio::runtime::Runtime>);

impl Runtime {
    fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.0.as_ref().expect("it is taken only when it ends").spawn(future)
    }

    /// Waits until all its tasks are gone: peers' connections belong to the server library, which ends them in no other
    /// way.
    async fn end(mut self) {
        let Some(runtime) = self.0.take() else { return };
        let ending = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(RUNTIME_END_TIMEOUT));
        if let Err(error) = ending.await {
            tracing::error!(%error, "raft's threads did not end");
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Member {
    /// Starts a member on this machine. It serves when a quorum is up; callers wait for that.
    ///
    /// # Errors
    /// When settings, data directory or port cannot be used.
    pub async fn start(config: Config, stop: CancellationToken) -> Result<Arc<Self>, MemberError> {
        // Raft has threads of its own, so that no load of the API delays a heartbeat or a vote.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(RAFT_THREADS)
            .thread_name(RAFT_THREAD)
            .enable_all()
            .build()
            .map_err(MemberError::Runtime)?;
        let runtime = Runtime(Some(runtime));
        let starting = runtime.spawn(Self::start_here(config, stop));
        let (node, parts) = match starting.await {
            Ok(started) => started?,
            Err(error) => return Err(MemberError::Runtime(std::io::Error::other(error))),
        };
        Ok(Arc::new(parts.into_member(node, Some(runtime))))
    }

    /// Checks settings and data directory without touching anything.
    ///
    /// # Errors
    /// As [`Member::start`].
    pub fn check(config: &Config) -> Result<(), MemberError> {
        // Whom a member that joins will be, only the others know.
        match wanted_identity(config)? {
            Some(wanted) => Ok(crate::directory::check(&config.data_dir, &wanted)?),
            None => Ok(()),
        }
    }

    async fn start_here(config: Config, stop: CancellationToken) -> Result<(Arc<Node>, Parts), MemberError> {
        let config = begin_anew(config)?;
        let wanted = wanted_identity(&config)?;
        if let Some(wanted) = &wanted {
            crate::directory::check(&config.data_dir, wanted)?;
        }
        let net: Arc<dyn Net> = Arc::new(TcpNet::new(config.peer_tls.clone()));
        // The port is taken first: a busy one must leave no trace in the data directory.
        let listener = listen(&*net, &config.listen_peer).await?;
        let wanted = match wanted {
            Some(wanted) => wanted,
            None => joining_identity(&config, &net).await?,
        };
        let member_id = wanted.member_id;
        let has_joined = has_joined(&config);
        let directory = Directory::open(&config.data_dir, wanted)?;
        if has_joined {
            directory.note_joined()?;
        }
        let counters = Counters::default();
        let disk = FsDisk::new(&directory.wal()).with_counters(counters.clone());
        let disk = disk.with_ballast(directory.ballast());
        let engines = FsEngines::new(&directory.database());
        let (identity, is_new) = (directory.identity.clone(), directory.is_new);
        let env = Env::new(EnvParts {
            place: Place::Machine,
            disk: Arc::new(disk),
            engines: Arc::new(engines.owning(directory)),
            net,
            fatal: config.fatal.clone().unwrap_or_else(exit_process),
            seed: random_from_system(),
        })
        .with_counters(counters);
        let contacts = config.contacts();
        let initial = if has_joined { BTreeMap::new() } else { initial_members(&config) };
        let member = MemberConfig {
            cluster_id: identity.cluster_id,
            member_id,
            incarnation: identity.incarnation,
            name: config.name,
            listen_peer: config.listen_peer,
            initial,
            contacts,
            client_urls: config.advertise_client_urls,
            timing: config.timing,
            wal: config.wal,
            snapshot_entries: config.snapshot_entries,
            entries_kept: config.entries_kept,
            quota_bytes: config.quota_bytes,
            disk_reserve_bytes: config.disk_reserve_bytes,
            compare_interval: config.compare_interval,
            auto_compaction: config.auto_compaction,
            token_ttl: config.token_ttl,
            slow_after: config.slow_after,
            limits: config.limits,
            watches: config.watches,
            levels: config.levels,
        };
        tracing::info!(
            member = format!("{member_id:x}"),
            new = is_new,
            path = %config.data_dir.display(),
            "opened the data directory"
        );
        Self::run(env, member, listener, stop).await
    }

    /// Starts a member in a given environment.
    ///
    /// # Errors
    /// When the port or the disk cannot be used.
    pub async fn start_in(
        env: Env,
        config: MemberConfig,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, MemberError> {
        let listener = listen(&*env.net, &config.listen_peer).await?;
        let (node, parts) = Self::run(env, config, listener, stop).await?;
        Ok(Arc::new(parts.into_member(node, None)))
    }

    async fn run(
        env: Env,
        config: MemberConfig,
        listener: Box<dyn crate::net::Listener>,
        stop: CancellationToken,
    ) -> Result<(Arc<Node>, Parts), MemberError> {
        let identity = Identity {
            cluster_id: config.cluster_id,
            member_id: config.member_id,
            incarnation: config.incarnation,
        };
        let node_config = NodeConfig {
            identity,
            name: config.name.clone(),
            client_urls: config.client_urls.clone(),
            joins: config.initial.is_empty(),
            timing: config.timing,
            wal: config.wal,
            snapshot_entries: config.snapshot_entries,
            entries_kept: config.entries_kept,
            slow_after: config.slow_after,
            levels: config.levels,
        };
        let counters = env.counters().clone();
        let leases = Arc::new(Leases::new(&env, config.timing));
        // The machine tells where it stands when it opens.
        let hub = Arc::new(Hub::with_limits(Revision::FIRST, config.watches));
        let peer_address = listener.local_address().ok();
        let sessions = Arc::new(Sessions::new(config.token_ttl));
        let observer = Box::new(MemberObserver {
            hub: Arc::clone(&hub),
            leases: Arc::clone(&leases),
            sessions: Arc::clone(&sessions),
            counters,
        });
        let node = Node::start(env, node_config, observer, Arc::clone(&leases), stop.clone()).await?;
        let tasks = node.tasks().clone();
        tasks.spawn(serve::serve(Arc::clone(&node), listener, stop.clone()));
        tasks.spawn(Arc::clone(&leases).run(Arc::clone(&node), stop.clone()));
        tasks.spawn(collect(Arc::clone(&node), stop.clone()));
        let disk_bytes = node.env().disk.free_space().total_bytes;
        let disk_limits = Limits::new(config.disk_reserve_bytes, disk_bytes, config.wal.segment_bytes);
        let space = Arc::new(Space::new(config.quota_bytes, disk_limits));
        tasks.spawn(Arc::clone(&space).run(Arc::clone(&node), stop.clone()));
        tasks.spawn(auto_compaction::run(config.auto_compaction, Arc::clone(&node), stop.clone()));
        tasks.spawn(divergence::run(config.compare_interval, Arc::clone(&node), stop.clone()));
        tasks.spawn(level::run(Arc::clone(&node), stop.clone()));
        let upkeep = Upkeep::new(Arc::clone(&node), config.contacts.clone());
        tasks.spawn(upkeep.run(stop.clone()));
        if !config.initial.is_empty() {
            tasks.spawn(form(Arc::clone(&node), members_to_form(&config), stop.clone()));
        }
        Ok((node, Parts { hub, leases, space, sessions, limits: config.limits, peer_address, stop }))
    }

    /// Returns the address of the peer port.
    #[must_use]
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.peer_address
    }

    /// Hands leadership over and stops: nothing is accepted any more, the log is closed, tasks have ended on return. The
    /// database closes and the data directory is free when the member is dropped.
    pub async fn stop(&self) {
        let (node, stop) = (Arc::clone(&self.node), self.stop.clone());
        let stopping = async move { node.stop(&stop).await };
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        match runtime {
            Some(runtime) => {
                if let Err(error) = runtime.spawn(stopping).await {
                    tracing::error!(%error, "the member did not stop cleanly");
                }
                runtime.end().await;
            }
            None => stopping.await,
        }
        self.node.close_log().await;
        self.hub.close();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // From here on raft may end without that being a fault.
        self.stop.cancel();
    }
}

/// Forms the cluster that the settings name, unless it exists.
async fn form(node: Arc<Node>, initial: BTreeMap<u64, MemberInfo>, stop: CancellationToken) {
    if let Err(refused) = bootstrap::run(&node, initial, &stop).await {
        node.env().fatal(&refused.to_string());
    }
}

/// Removes rows that compaction has made unreadable, a little at a time.
async fn collect(node: Arc<Node>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let (began, machine) = (Instant::now(), Arc::clone(node.machine()));
        let pause = match node.env().blocking(move || machine.collect()).await {
            Collection::Finished => COLLECT_IDLE,
            Collection::MoreToDo => COLLECT_PAUSE_MIN.max(began.elapsed() * COLLECT_REST),
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// A state that must not be served is moved aside; the member then joins in its own place.
fn begin_anew(config: Config) -> Result<Config, MemberError> {
    let Some(divergence) = crate::directory::set_aside(&config.data_dir)? else { return Ok(config) };
    let StoredDivergence { member_id, index, contacts } = divergence;
    let member = format!("{member_id:x}");
    tracing::warn!(
        member,
        index,
        "its state differed from that of a majority and was moved aside; it joins anew"
    );
    let join = Join { contacts, replaces: Some(member_id) };
    Ok(Config { join: Some(join), ..config })
}

/// Returns who this member is, `None` when only the cluster that it joins can say.
fn wanted_identity(config: &Config) -> Result<Option<StoredIdentity>, MemberError> {
    // One that has joined is whom its data directory says: its id does not follow from its URLs, and these may have changed.
    if has_joined(config) {
        return Ok(crate::directory::owner(&config.data_dir)?);
    }
    let member_id = crate::config::member_id(&config.advertise_peer_urls, &config.cluster_token);
    if !config.initial_ids().contains_key(&member_id) {
        return Err(MemberError::NotInCluster);
    }
    Ok(Some(identity(config, config.cluster_id(), member_id)))
}

/// Whether the cluster is there already: said now, or once before.
fn has_joined(config: &Config) -> bool {
    config.joins() || crate::directory::has_joined(&config.data_dir)
}

async fn joining_identity(config: &Config, net: &Arc<dyn Net>) -> Result<StoredIdentity, MemberError> {
    let place = join::find(net, config, random_from_system()).await?;
    Ok(identity(config, place.cluster_id, place.member_id))
}

fn identity(config: &Config, cluster_id: u64, member_id: u64) -> StoredIdentity {
    let incarnation = random_from_system().max(1);
    StoredIdentity { cluster_id, member_id, incarnation, name: config.name.clone() }
}

fn initial_members(config: &Config) -> BTreeMap<u64, (String, Vec<String>)> {
    config.initial_ids().into_iter().map(|(id, member)| (id, (member.name, member.peer_urls))).collect()
}

fn members_to_form(config: &MemberConfig) -> BTreeMap<u64, MemberInfo> {
    let member = |id: u64, name: &str, peer_urls: &[String]| MemberInfo {
        name: name.to_owned(),
        peer_urls: peer_urls.to_vec(),
        client_urls: if id == config.member_id { config.client_urls.clone() } else { Vec::new() },
        ..MemberInfo::default()
    };
    config.initial.iter().map(|(id, (name, urls))| (*id, member(*id, name, urls))).collect()
}

async fn listen(net: &dyn Net, address: &str) -> Result<Box<dyn crate::net::Listener>, MemberError> {
    net.listen(address).await.map_err(|source| MemberError::Listen { address: address.to_owned(), source })
}

/// The one place where randomness enters on a real machine.
fn random_from_system() -> u64 {
    let (first, _) = uuid::Uuid::new_v4().as_u64_pair();
    let (second, third) = uuid::Uuid::new_v4().as_u64_pair();
    // Version and variant bits of the ids are constant; the rest of the others fills them.
    first ^ second.rotate_left(21) ^ third.rotate_left(42)
}

fn exit_process() -> Fatal {
    // Said like every other end of the program, whatever is logged.
    Arc::new(|message| {
        eprintln!("keelson: the store member cannot go on: {message}");
        std::process::exit(1);
    })
}
