//! One running raft member: starts the parts in order, proposes, confirms leadership, and hands over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{Instant as _, ReadPolicy};
use openraft_rt::deterministic_rng::DeterministicRng;
use proto::raft as wire;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::{Admission, Load};
use super::convert;
use super::forward::{Forwarding, Reason, Waiters};
use super::log_driver::{StartedLog, start_log};
use super::log_store::Shared;
use super::lost_leader;
use super::members::Recognition;
use super::network::{Identity, Peer, Peers};
use super::read_index::ReadRounds;
use super::request::Request;
use super::slow::SlowLog;
use super::state_machine::{Found, Machine, Observer, StateMachine};
use super::together::{Mismatch, check_together};
use super::tuning;
use super::types::{LogId, Member, Proposal, Raft, Reply, TypeConfig, Vote};
use crate::config::Timing;
use crate::engine::EngineError;
use crate::env::{Env, error_chain};
use crate::level::Levels;
use crate::member::{Leases, Room};
use crate::metrics::UnderWay;
use crate::mvcc::{Answer, Refusal};
use crate::wal::driver::WalQueue;
use crate::wal::{Wal, WalConfig, WalError};

/// How often a request looks for a leader when there is none.
pub(crate) const LEADER_POLL: Duration = Duration::from_millis(10);
/// How long a stopping member waits for its log to close.
const WAL_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a member cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the log in {directory} cannot be used")]
    Wal { directory: String, source: WalError },
    #[error("the database in {directory} cannot be used")]
    Engine { directory: String, source: EngineError },
    #[error("the log in {log} and the database in {database} do not belong together")]
    Apart { log: String, database: String, source: Mismatch },
    #[error("a log entry cannot be understood: {0}")]
    Malformed(String),
    #[error(
        "this member was removed from the cluster, and what it holds is of no use any more; add a new member with an \
         empty data directory"
    )]
    Removed,
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    #[error("raft cannot start: {0}")]
    Raft(String),
}

impl StartError {
    /// Whether the directory is fine and only this start is wrong: the program is too old for it, or the member is no more.
    pub(crate) fn is_callers_mistake(&self) -> bool {
        match self {
            Self::Wal { source, .. } => matches!(source, WalError::Version { .. }),
            Self::Engine { source, .. } => {
                matches!(source, EngineError::Format { .. } | EngineError::Level(_))
            }
            Self::Removed => true,
            Self::Apart { .. } | Self::Malformed(_) | Self::Thread(_) | Self::Raft(_) => false,
        }
    }
}

/// What a node is started with.
pub(crate) struct NodeConfig {
    pub(crate) identity: Identity,
    pub(crate) name: String,
    pub(crate) client_urls: Vec<String>,
    /// Whether it joins a cluster, or did once, instead of forming one.
    pub(crate) joins: bool,
    pub(crate) timing: Timing,
    pub(crate) wal: WalConfig,
    /// Entries applied between two snapshots.
    pub(crate) snapshot_entries: u64,
    /// Entries kept behind a snapshot; `None` for the default.
    pub(crate) entries_kept: Option<u64>,
    /// Requests that take longer are logged.
    pub(crate) slow_after: Duration,
    /// Feature levels that the member can be at.
    pub(crate) levels: Levels,
}

/// Outcome of a proposal.
pub(crate) enum Forwarded {
    /// Applied by this member, with the answer.
    Committed(Reply),
    /// Nothing was proposed.
    NotLeader,
    /// It may or may not commit.
    Unknown,
}

/// Why a proposal has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProposeError {
    NoLeader,
    /// The cluster is at a lower feature level than this needs.
    NotCapable,
    TooMany,
    Unknown,
}

/// A member that takes part in consensus.
pub(crate) struct Node {
    env: Env,
    identity: Identity,
    name: String,
    client_urls: Vec<String>,
    joins: bool,
    timing: Timing,
    leases: Arc<Leases>,
    raft: Raft,
    machine: Arc<Machine>,
    peers: Peers,
    clients: Mutex<BTreeMap<u64, (Member, Peer)>>,
    waiters: Arc<Waiters>,
    forwarding: Forwarding,
    admission: Admission,
    rounds: ReadRounds,
    /// For tasks that outlive the call that starts them.
    own: Weak<Self>,
    contact: Mutex<Option<Instant>>,
    room: Mutex<Room>,
    log: Arc<Shared>,
    log_queue: WalQueue,
    slow: SlowLog,
    wal_thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    tasks: TaskTracker,
}

impl Node {
    /// Opens log and database and starts raft. Nothing is asked of other members yet.
    ///
    /// # Errors
    /// When the data directory is damaged or the disk fails.
    pub(crate) async fn start(
        env: Env,
        config: NodeConfig,
        observer: Box<dyn Observer>,
        leases: Arc<Leases>,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, StartError> {
        let waiters = Arc::new(Waiters::new(config.identity.member_id, observer));
        // Everything is read and checked before anything is written: a damaged directory stays as it is.
        let log_failed = |source| StartError::Wal { directory: env.disk.free_space().path, source };
        let engine_failed = |source| StartError::Engine { directory: env.engines.directory(), source };
        let log = Wal::inspect(Arc::clone(&env.disk), config.wal).map_err(log_failed)?;
        let found = Found::read(&*env.engines, config.levels).map_err(engine_failed)?;
        if found.has_removed(config.identity.member_id) {
            return Err(StartError::Removed);
        }
        check_together(&found, &log).map_err(|source| StartError::Apart {
            log: env.disk.free_space().path,
            database: env.engines.directory(),
            source,
        })?;
        let (mut wal, mut recovered) = log.start().map_err(log_failed)?;
        if let Some(applied) = found.applied() {
            wal.drop_overruled(&mut recovered, convert::position(applied)).map_err(log_failed)?;
        }
        let shared = Shared::new(Arc::clone(&env.disk), recovered, config.wal.cache_bytes_max)
            .map_err(|error| StartError::Malformed(error.to_string()))?;
        let machine = Machine::open(&env, Arc::<Waiters>::clone(&waiters), found).map_err(engine_failed)?;
        let machine = Arc::new(machine);
        let tasks = TaskTracker::new();
        let log = Arc::new(shared);
        let StartedLog { store: log_store, queue: log_queue, thread: wal_thread } =
            start_log(&env, wal, Arc::clone(&log), config.wal, &tasks).map_err(StartError::Thread)?;
        let peers = Peers::new(Arc::clone(&env.net), config.identity);
        let state_machine = StateMachine { machine: Arc::clone(&machine) };
        let starting = Raft::new(
            config.identity.member_id,
            Arc::new(tuning::raft_config(&config)?),
            peers.clone(),
            log_store,
            state_machine,
        );
        let raft = DeterministicRng::<openraft_rt_tokio::TokioRuntime>::scope(env.random_u64(), starting)
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;
        let rounds = ReadRounds::new(tasks.clone(), stop.clone());
        let forwarding = Forwarding::new(Arc::clone(&waiters), tasks.clone(), stop.clone());
        let slow = SlowLog::new(config.slow_after, env.counters().clone());
        let node = Arc::new_cyclic(|own| Self {
            env,
            identity: config.identity,
            name: config.name,
            client_urls: config.client_urls,
            joins: config.joins,
            timing: config.timing,
            leases,
            raft,
            machine,
            peers,
            clients: Mutex::default(),
            waiters,
            forwarding,
            admission: Admission::default(),
            rounds,
            own: own.clone(),
            contact: Mutex::default(),
            room: Mutex::default(),
            log,
            log_queue,
            slow,
            wal_thread: Mutex::new(wal_thread),
            tasks,
        });
        node.tasks.spawn(supervise(Arc::clone(&node), stop.clone()));
        node.tasks.spawn(lost_leader::watch(Arc::clone(&node), stop));
        Ok(node)
    }

    pub(crate) fn env(&self) -> &Env {
        &self.env
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn client_urls(&self) -> &[String] {
        &self.client_urls
    }

    pub(crate) fn joins(&self) -> bool {
        self.joins
    }

    pub(crate) fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Returns the index of the last entry that this member knows to be committed.
    pub(crate) fn committed_index(&self) -> u64 {
        self.log.committed().max(self.machine.applied().map_or(0, |id| id.index()))
    }

    /// Returns how many proposals of this member's clients travel through another one.
    pub(crate) fn forwarded(&self) -> usize {
        self.waiters.count()
    }

    /// Returns the proposals of this member's clients that have no answer yet.
    pub(crate) fn admitted(&self) -> Load {
        self.admission.load()
    }

    /// Returns how many requests wait for the log.
    pub(crate) fn log_queue(&self) -> usize {
        self.log_queue.waiting()
    }

    /// Returns the index of the last entry in this member's log.
    pub(crate) fn last_log_index(&self) -> u64 {
        self.raft.metrics().borrow_watched().last_log_index.unwrap_or(0)
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    pub(crate) fn raft(&self) -> &Raft {
        &self.raft
    }

    pub(crate) fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Returns the tasks that end with this member.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Checks who calls and whom it looks for (safety rule 4).
    pub(crate) fn admit(&self, identity: &wire::PeerIdentity) -> Result<(), &'static str> {
        let own = self.identity;
        if identity.cluster_id != own.cluster_id {
            return Err("the caller belongs to another cluster");
        }
        if identity.target_id != own.member_id {
            return Err("the caller looks for another member");
        }
        // Who does not know this data directory yet must not fill it: another one may own the id in the end.
        if identity.target_incarnation != own.incarnation {
            return Err("the caller knows this member with another data directory");
        }
        match self.recognise(identity.member_id, identity.incarnation) {
            // This member may be behind: raft decides what such a caller's word is worth.
            Recognition::Same | Recognition::Unknown | Recognition::Unstarted => Ok(()),
            Recognition::OtherDirectory => {
                Err("the caller's data directory is not the one that joined the cluster")
            }
            Recognition::Removed => Err("the caller was removed from the cluster"),
        }
    }

    /// Notes that a leader was heard of.
    pub(crate) fn note_append(&self, vote: &Vote) {
        let term = self.raft.metrics().borrow_watched().current_term;
        if vote.committed && vote.leader_id.term >= term {
            *self.contact.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.env.now());
        }
    }

    /// Notes what room this member has, for the leader to ask.
    pub(crate) fn note_room(&self, room: Room) {
        *self.room.lock().unwrap_or_else(PoisonError::into_inner) = room;
    }

    pub(crate) fn room(&self) -> Room {
        *self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how long ago this member was last in confirmed contact with a leader, itself included.
    pub(crate) fn leader_silence(&self) -> Duration {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state.is_leader() {
            // Alone it is the quorum; openraft would note nothing but the acknowledgement of writes.
            if metrics.membership_config.voter_ids().all(|id| id == self.identity.member_id) {
                return Duration::ZERO;
            }
            return metrics.last_quorum_acked.map_or(Duration::MAX, |acked| acked.into_inner().elapsed());
        }
        let contact = *self.contact.lock().unwrap_or_else(PoisonError::into_inner);
        contact.map_or(Duration::MAX, |contact| self.env.now().saturating_duration_since(contact))
    }

    /// Returns leader and term as this member knows them.
    pub(crate) fn leader(&self) -> (Option<u64>, u64) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        (metrics.current_leader, metrics.current_term)
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.leader().0 == Some(self.identity.member_id)
    }

    /// Returns a client of another member.
    pub(crate) fn peer(&self, id: u64) -> Option<Peer> {
        let metrics = self.raft.metrics();
        let membership = Arc::clone(&metrics.borrow_watched().membership_config);
        let member = membership.get_node(&id)?;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        match clients.get(&id) {
            Some((known, peer)) if known == member => Some(peer.clone()),
            _ => {
                let peer = self.peers.client(id, member);
                clients.insert(id, (member.clone(), peer.clone()));
                Some(peer)
            }
        }
    }

    /// Proposes a command wherever the leader is and returns its answer once this member knows it.
    pub(crate) async fn propose(
        &self,
        request: Request,
        term: u64,
    ) -> Result<Result<Answer, Refusal>, ProposeError> {
        // The level never falls, so whoever has applied it knows that the log holds it before this (safety rule 9).
        if request.level > self.machine.store().level() {
            return Err(ProposeError::NotCapable);
        }
        // What the store itself proposes as leader makes room, or keeps a promise, and is little.
        let _admitted = match term {
            0 => Some(self.admission.admit(request.size()).ok_or(ProposeError::TooMany)?),
            _ => None,
        };
        let command = request.bytes;
        let counters = self.env.counters();
        let _under_way = UnderWay::new(&counters.proposals_pending);
        let asked = std::time::Instant::now();
        match self.propose_until_known(command.clone(), term).await {
            Ok(Reply { answer: Some(answer), place }) => {
                self.slow.write(asked, place, &command, |index| self.log.times(index));
                Ok(answer)
            }
            Ok(Reply { answer: None, .. }) => {
                counters.proposals_failed.inc();
                Err(ProposeError::Unknown)
            }
            Err(error) => {
                counters.proposals_failed.inc();
                Err(error)
            }
        }
    }

    async fn propose_until_known(&self, command: Bytes, term: u64) -> Result<Reply, ProposeError> {
        let deadline = self.env.now() + self.timing.request_timeout();
        let request_id = self.env.random_u64();
        let proposal = Proposal { origin: self.identity.member_id, request_id, command };
        loop {
            let outcome = match self.leader().0 {
                Some(leader) if leader == self.identity.member_id => {
                    self.propose_here(&proposal, term, deadline).await
                }
                Some(leader) => self.propose_there(leader, &proposal, term, deadline).await,
                None => Err(ProposeError::NoLeader),
            };
            match outcome {
                // Nothing was proposed, so trying again cannot do it twice.
                Err(ProposeError::NoLeader) if term == 0 && self.env.now() < deadline => {
                    tokio::time::sleep(LEADER_POLL).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn propose_here(
        &self,
        proposal: &Proposal,
        term: u64,
        deadline: Instant,
    ) -> Result<Reply, ProposeError> {
        let proposing = self.propose_as_leader(proposal.clone(), term);
        match tokio::time::timeout_at(deadline, proposing).await {
            Ok(Forwarded::Committed(reply)) => Ok(reply),
            Ok(Forwarded::NotLeader) => Err(ProposeError::NoLeader),
            Ok(Forwarded::Unknown) | Err(_) => Err(ProposeError::Unknown),
        }
    }

    /// Sends a proposal to the leader; the answer comes from this member's own state machine.
    async fn propose_there(
        &self,
        leader: u64,
        proposal: &Proposal,
        term: u64,
        deadline: Instant,
    ) -> Result<Reply, ProposeError> {
        let request =
            wire::ProposeRequest { proposal: Some(convert::proposal_to_wire(proposal.clone())), term };
        let sent_in = self.leader().1;
        let sending = self.forwarding.send(leader, || self.peer(leader), request);
        let mut receipt = match tokio::time::timeout_at(deadline, sending).await {
            Ok(sent) => sent.ok_or(ProposeError::NoLeader)?,
            Err(_) => return Err(ProposeError::NoLeader),
        };
        let reason = tokio::select! {
            biased;
            applied = &mut receipt.applied => return applied.map_err(|_| ProposeError::Unknown),
            refused = &mut receipt.refused => refused.unwrap_or(Reason::Unknown),
            () = tokio::time::sleep_until(deadline) => return Err(ProposeError::Unknown),
        };
        match reason {
            Reason::NotLeader => Err(ProposeError::NoLeader),
            Reason::Unknown | Reason::Unspecified => {
                // What got lost on the way may still be applied here, before anything of the next leader is.
                let patience = deadline.min(self.env.now() + self.timing.election_timeout);
                tokio::select! {
                    biased;
                    applied = &mut receipt.applied => applied.map_err(|_| ProposeError::Unknown),
                    () = self.wait_applied_after(sent_in) => Err(ProposeError::Unknown),
                    () = tokio::time::sleep_until(patience) => Err(ProposeError::Unknown),
                }
            }
        }
    }

    /// Proposes on this member; `term` other than 0 fences it to that leadership.
    pub(crate) async fn propose_as_leader(&self, proposal: Proposal, term: u64) -> Forwarded {
        if term != 0 && self.leader() != (Some(self.identity.member_id), term) {
            return Forwarded::NotLeader;
        }
        let written = if term == 0 {
            self.raft.client_write(proposal).await
        } else {
            self.write_fenced(proposal, term).await
        };
        match written {
            Ok(response) => Forwarded::Committed(response.data),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Forwarded::NotLeader,
            Err(_) => Forwarded::Unknown,
        }
    }

    async fn write_fenced(
        &self,
        proposal: Proposal,
        term: u64,
    ) -> Result<
        openraft::raft::ClientWriteResponse<TypeConfig>,
        RaftError<TypeConfig, ClientWriteError<TypeConfig>>,
    > {
        let (responder, _committed, completed) = openraft::impls::ProgressResponder::new();
        let leader = openraft::vote::leader_id_std::CommittedLeaderId::new(term);
        self.raft.write(proposal).with_leader(leader).responder(responder).await.map_err(RaftError::Fatal)?;
        match completed.await {
            Ok(result) => result.map_err(RaftError::APIError),
            Err(_) => Err(RaftError::Fatal(openraft::errors::Fatal::Stopped)),
        }
    }

    /// As leader: confirms leadership with a quorum and returns a position that covers all acknowledged writes.
    pub(crate) async fn confirm_leadership(&self) -> Option<LogId> {
        let confirming = self.raft.get_read_linearizer(ReadPolicy::ReadIndex);
        let linearizer = tokio::time::timeout(self.timing.election_timeout, confirming).await.ok()?.ok()?;
        Some(*linearizer.read_log_id().log_id())
    }

    /// Asks the leader, wherever it is, once.
    async fn read_index_round(&self) -> Option<u64> {
        let (leader, _) = self.leader();
        let leader = leader?;
        if leader == self.identity.member_id {
            return self.confirm_leadership().await.map(|id| id.index());
        }
        let response = self.peer(leader)?.read_index(self.timing.election_timeout).await.ok()?;
        response.log_id.map(|id| id.index)
    }

    fn rounds_of(own: Weak<Self>) -> impl Fn() -> BoxFuture<'static, Option<u64>> + Send + 'static {
        move || {
            let node = own.upgrade();
            Box::pin(async move { node?.read_index_round().await })
        }
    }

    /// Waits until this member has applied everything acknowledged before the call. `false` without a leader.
    pub(crate) async fn linearize(&self) -> bool {
        let counters = self.env.counters();
        let _under_way = UnderWay::new(&counters.reads_unconfirmed);
        let asked = std::time::Instant::now();
        let deadline = self.env.now() + self.timing.request_timeout();
        let Some(index) = self.confirmed_index(deadline).await else {
            counters.read_indexes_failed.inc();
            return false;
        };
        let consensus = asked.elapsed();
        let is_applied = self.wait_applied(index, deadline).await;
        self.slow.read(consensus, asked.elapsed().saturating_sub(consensus));
        is_applied
    }

    async fn confirmed_index(&self, deadline: Instant) -> Option<u64> {
        loop {
            let confirming = self.rounds.next(Self::rounds_of(self.own.clone()));
            match tokio::time::timeout_at(deadline, confirming).await {
                Ok(Some(index)) => return Some(index),
                Ok(None) if self.env.now() < deadline => tokio::time::sleep(LEADER_POLL).await,
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// Waits until this member has applied an entry of a later term: no more of this term can follow.
    async fn wait_applied_after(&self, term: u64) {
        let mut applied = self.machine.watch_applied();
        let is_later =
            |applied: &Option<LogId>| applied.is_some_and(|id| id.committed_leader_id().term > term);
        if applied.wait_for(is_later).await.is_err() {
            // The machine has ended: there is nothing to wait for.
            std::future::pending().await
        }
    }

    pub(crate) async fn wait_applied(&self, index: u64, deadline: Instant) -> bool {
        let mut applied = self.machine.watch_applied();
        let reached = applied.wait_for(|applied| applied.map(|id| id.index()) >= Some(index));
        matches!(tokio::time::timeout_at(deadline, reached).await, Ok(Ok(_)))
    }

    /// Hands leadership over, then stops raft and this member's tasks.
    pub(crate) async fn stop(&self, stop: &CancellationToken) {
        // From here on raft may end without that being a fault.
        if self.is_leader() && !self.hand_over(None).await {
            tracing::warn!("leadership was not taken over in time");
        }
        stop.cancel();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "raft did not stop cleanly");
        }
        self.tasks.close();
        self.tasks.wait().await;
        let machine = Arc::clone(&self.machine);
        if let Err(error) = self.env().blocking(move || machine.flush_with_index()).await {
            // The log has it all.
            tracing::warn!(error = error_chain(&error), "the database was not flushed");
        }
    }

    /// Waits until the log is closed: it ends once raft has dropped its last sender.
    pub(crate) async fn close_log(&self) {
        let thread = self.wal_thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let joining = tokio::task::spawn_blocking(move || thread.join());
            if tokio::time::timeout(WAL_CLOSE_TIMEOUT, joining).await.is_err() {
                tracing::warn!("the log is still in use");
            }
        }
    }

    /// Gives leadership to a member, or to the one that is furthest, and waits for it, but not long. Returns whether
    /// leadership has moved or there is nobody to take it.
    pub(crate) async fn hand_over(&self, to: Option<u64>) -> bool {
        let own = self.identity.member_id;
        if to == Some(own) {
            return true;
        }
        let target = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let voters: Vec<u64> = metrics.membership_config.voter_ids().filter(|id| *id != own).collect();
            let progress = metrics.replication.clone().unwrap_or_default();
            to.or_else(|| voters.into_iter().max_by_key(|id| progress.get(id).cloned().flatten()))
        };
        let Some(target) = target else { return true };
        if let Err(error) = self.raft.trigger().transfer_leader(target).await {
            tracing::warn!(%error, "cannot hand leadership over");
            return false;
        }
        let waiting = self.raft.wait(Some(self.timing.election_timeout));
        let moved = waiting.metrics(
            |metrics| metrics.current_leader.is_some_and(|leader| leader != own),
            "leadership has moved",
        );
        moved.await.is_ok()
    }
}

/// Follows who belongs to the cluster, and ends the member when raft has died: a panic or a failed disk there must not leave a member
/// that seems alive.
async fn supervise(node: Arc<Node>, stop: CancellationToken) {
    // These change with votes and members only, so waiting for them costs nothing per write; they end with raft.
    let mut changes = node.raft.server_metrics();
    let mut leader = None;
    loop {
        node.peers.note(node.members());
        let now = node.leader().0;
        if now.is_some() && now != leader {
            node.env.counters().leader_changes.inc();
            leader = now;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = WatchReceiver::changed(&mut changes) => {
                if changed.is_err() && !stop.is_cancelled() {
                    let ended = node.raft.metrics().borrow_watched().running_state.clone();
                    let reason = ended.err().map_or_else(|| "a panic".to_owned(), |fatal| fatal.to_string());
                    node.env.fatal(&format!("raft has ended: {reason}"));
                    return;
                }
            }
        }
    }
}
