//! The answering end of peer calls. A caller of another cluster, a stale data directory or one that looks for somebody
//! else is refused before anything is done (safety rule 4).

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use openraft::raft::TransferLeaderRequest;
use openraft_rt::deterministic_rng::DeterministicRng;
use prost::Message;
use proto::raft as wire;
use proto::raft::peer_server;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::change_wire;
use super::convert::{self, Malformed};
use super::forward;
use super::members::Recognition;
use super::network::IDENTITY_KEY;
use super::node::Node;
use super::reconfigure::Outcome;
use super::snapshot::SnapshotData;
use super::state_machine::SnapshotOf;
use super::types::{AppendRequest, Raft, TypeConfig};
use crate::engine::EngineError;
use crate::env::engines::Staged;
use crate::mvcc;

/// Answers peers on behalf of one member.
#[derive(Clone)]
pub(crate) struct PeerService {
    pub(crate) node: Arc<Node>,
    /// Ends append streams: a quiet leader keeps them open for ever.
    pub(crate) stop: CancellationToken,
    /// Ends the snapshot that is on its way when another one comes: its leader is gone, or has given it up.
    receiving: Arc<Mutex<CancellationToken>>,
}

impl PeerService {
    pub(crate) fn new(node: Arc<Node>, stop: CancellationToken) -> Self {
        Self { node, stop, receiving: Arc::default() }
    }

    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let identity = caller(request).ok_or_else(|| Status::unauthenticated("no peer identity"))?;
        self.node.admit(&identity).map_err(|reason| {
            tracing::warn!(peer = format!("{:x}", identity.member_id), reason, "refused a peer");
            Status::failed_precondition(reason)
        })
    }

    fn raft(&self) -> &Raft {
        self.node.raft()
    }
}

fn caller<T>(request: &Request<T>) -> Option<wire::PeerIdentity> {
    let value = request.metadata().get_bin(IDENTITY_KEY)?;
    wire::PeerIdentity::decode(value.to_bytes().ok()?).ok()
}

fn malformed(error: Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl peer_server::Peer for PeerService {
    async fn cluster_info(
        &self,
        request: Request<wire::ClusterInfoRequest>,
    ) -> Result<Response<wire::ClusterInfoResponse>, Status> {
        let caller = caller(&request);
        let identity = self.node.identity();
        // A member that only voted does not know yet who belongs to the cluster.
        let initialized = !self.node.members().is_empty();
        let caller = caller.filter(|caller| caller.cluster_id == identity.cluster_id);
        let seen = caller.map(|caller| self.node.recognise(caller.member_id, caller.incarnation));
        let (membership, _) = self.node.machine().membership();
        let levels = self.node.machine().levels();
        Ok(Response::new(wire::ClusterInfoResponse {
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            incarnation: identity.incarnation,
            initialized,
            recognises_you: seen == Some(Recognition::Same),
            name: self.node.name().to_owned(),
            client_urls: self.node.client_urls().to_vec(),
            members: membership.nodes().map(|(id, member)| convert::member_to_wire(*id, member)).collect(),
            removed_you: seen == Some(Recognition::Removed),
            short_of_disk: self.node.room().is_disk_short,
            over_quota: self.node.room().is_over_quota,
            level: self.node.machine().store().level().0,
            lowest_level: levels.lowest.0,
            highest_level: levels.highest.0,
        }))
    }

    type StreamAppendStream = Answers<wire::AppendResponse>;

    async fn stream_append(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Self::StreamAppendStream>, Status> {
        self.admit(&request)?;
        let node = Arc::clone(&self.node);
        let requests = stream::unfold((request.into_inner(), node), |(mut messages, node)| async move {
            let message = messages.message().await.ok()??;
            let request: AppendRequest = convert::append_request(message)
                .inspect_err(|error| tracing::warn!(%error, "a peer sends what is no append request"))
                .ok()?;
            node.note_append(&request.vote);
            Some((request, (messages, node)))
        });
        let raft = self.raft().clone();
        // openraft spawns here, and its runtime draws a task's seed from the task that spawns it.
        let seed = self.node.env().random_u64();
        let starting = async move {
            let results: BoxStream<'static, _> = Box::pin(raft.stream_append(requests));
            results
        };
        let results = DeterministicRng::<openraft_rt_tokio::TokioRuntime>::scope(seed, starting).await;
        let answers = results.map(|result| result.map(append_answer).map_err(stopped));
        // It ends with the caller's stream or with this member.
        Ok(Response::new(Box::pin(answers.take_until(self.stop.clone().cancelled_owned()))))
    }

    async fn vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteResponse>, Status> {
        self.admit(&request)?;
        let request = request.into_inner();
        let is_pre_vote = request.pre_vote;
        let asked = convert::vote_request(request).map_err(malformed)?;
        let answer =
            if is_pre_vote { self.raft().pre_vote(asked).await } else { self.raft().vote(asked).await };
        Ok(Response::new(convert::vote_response_to_wire(&answer.map_err(stopped)?)))
    }

    async fn transfer(
        &self,
        request: Request<wire::TransferRequest>,
    ) -> Result<Response<wire::TransferResponse>, Status> {
        use wire::transfer_response::Result as Outcome;
        self.admit(&request)?;
        let request = request.into_inner();
        let from = convert::vote(request.from_leader.ok_or_else(|| malformed(Malformed("transfer vote")))?);
        let request =
            TransferLeaderRequest::<TypeConfig>::new(from, request.to, request.last.map(convert::log_id));
        let answer = self.raft().handle_transfer_leader(request).await.map_err(stopped)?;
        let result = match answer {
            Ok(()) => Outcome::Accepted(wire::Blank {}),
            Err(openraft::raft::TransferLeaderError::VoteChanged { actual, .. }) => {
                Outcome::VoteChanged(convert::vote_to_wire(&actual))
            }
            Err(openraft::raft::TransferLeaderError::LogNotFlushed { actual, .. }) => {
                Outcome::LogNotFlushed(actual.map(convert::log_id_to_wire).unwrap_or_default())
            }
        };
        Ok(Response::new(wire::TransferResponse { result: Some(result) }))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotPart>>,
    ) -> Result<Response<wire::SnapshotResponse>, Status> {
        self.admit(&request)?;
        let (vote, snapshot) = self.receive(request.into_inner()).await?;
        let response = self.raft().install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        Ok(Response::new(wire::SnapshotResponse { vote: Some(convert::vote_to_wire(&response.vote)) }))
    }

    type ProposeStream = Answers<wire::ProposeRefused>;

    async fn propose(
        &self,
        request: Request<Streaming<wire::ProposeRequest>>,
    ) -> Result<Response<Self::ProposeStream>, Status> {
        self.admit(&request)?;
        let refused = forward::serve(Arc::clone(&self.node), request.into_inner());
        Ok(Response::new(Box::pin(refused.take_until(self.stop.clone().cancelled_owned()))))
    }

    async fn read_index(
        &self,
        request: Request<wire::ReadIndexRequest>,
    ) -> Result<Response<wire::ReadIndexResponse>, Status> {
        self.admit(&request)?;
        let log_id = self.node.confirm_leadership().await.map(convert::log_id_to_wire);
        Ok(Response::new(wire::ReadIndexResponse { log_id }))
    }

    async fn keep_alive(
        &self,
        request: Request<wire::KeepAliveRequest>,
    ) -> Result<Response<wire::KeepAliveResponse>, Status> {
        self.admit(&request)?;
        let lease = mvcc::LeaseId(request.into_inner().lease);
        Ok(Response::new(self.node.leases().keep_alive_as_leader(&self.node, lease).await))
    }

    async fn lease_time(
        &self,
        request: Request<wire::LeaseTimeRequest>,
    ) -> Result<Response<wire::LeaseTimeResponse>, Status> {
        self.admit(&request)?;
        let lease = mvcc::LeaseId(request.into_inner().lease);
        Ok(Response::new(self.node.leases().time_to_live_as_leader(&self.node, lease).await))
    }

    async fn state_digest(
        &self,
        request: Request<wire::StateDigestRequest>,
    ) -> Result<Response<wire::StateDigestResponse>, Status> {
        self.admit(&request)?;
        let digest = self.node.machine().noted(request.into_inner().index);
        Ok(Response::new(wire::StateDigestResponse {
            digest: digest.map(|digest| digest.to_be_bytes().to_vec().into()).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }

    async fn change_members(
        &self,
        request: Request<wire::ChangeMembersRequest>,
    ) -> Result<Response<wire::ChangeMembersResponse>, Status> {
        self.admit(&request)?;
        let wire::ChangeMembersRequest { change, relay } = request.into_inner();
        let change = change_wire::change(change.ok_or_else(|| malformed(Malformed("change of members")))?);
        let outcome = if relay {
            Outcome::from(self.node.change_members(&change).await)
        } else {
            let deadline = self.node.env().now() + self.node.timing().request_timeout();
            self.node.change_as_leader(&change, deadline).await
        };
        Ok(Response::new(change_wire::outcome_to_wire(&outcome)))
    }
}

fn append_answer(result: openraft::raft::StreamAppendResult<TypeConfig>) -> wire::AppendResponse {
    use openraft::raft::StreamAppendError;
    use wire::append_response::Result as Outcome;
    let result = match result {
        Ok(stored) => Outcome::Partial(wire::WalPosition { id: stored.map(convert::log_id_to_wire) }),
        Err(StreamAppendError::Conflict(_)) => Outcome::Conflict(wire::Blank {}),
        Err(StreamAppendError::HigherVote(higher)) => Outcome::HigherVote(convert::vote_to_wire(&higher)),
    };
    wire::AppendResponse { result: Some(result) }
}

fn incomplete() -> Status {
    Status::data_loss("the snapshot is not whole")
}

fn superseded() -> Status {
    Status::aborted("another snapshot came in between")
}

impl PeerService {
    /// Writes a snapshot to a staged engine; nothing is installed unless it arrived whole.
    async fn receive(
        &self,
        mut parts: Streaming<wire::SnapshotPart>,
    ) -> Result<(super::types::Vote, SnapshotOf), Status> {
        use wire::snapshot_part::Part;
        let Some(Part::Head(head)) = parts.message().await?.and_then(|part| part.part) else {
            return Err(incomplete());
        };
        let vote = convert::vote(head.vote.ok_or_else(incomplete)?);
        let meta = convert::snapshot_meta(head.meta.ok_or_else(incomplete)?).map_err(malformed)?;
        // openraft takes a snapshot beyond its leader's term for corruption and panics.
        if meta.last_log_id.is_some_and(|last| last.committed_leader_id().term > vote.leader_id.term) {
            return Err(Status::failed_precondition("the snapshot is newer than its sender's term"));
        }
        if vote.leader_id.term < self.node.leader().1 {
            return Err(Status::failed_precondition("the sender of the snapshot leads no more"));
        }
        let taking = self.supersede();
        taking
            .run_until_cancelled(self.take(&mut parts))
            .await
            .unwrap_or_else(|| Err(superseded()))
            .map(|staged| (vote, SnapshotOf { meta, snapshot: SnapshotData::Staged(staged) }))
    }

    /// Gives up the snapshot that is on its way, if there is one. What is returned ends when the next one comes.
    fn supersede(&self) -> CancellationToken {
        let taking = CancellationToken::new();
        let mut receiving = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *receiving, taking.clone()).cancel();
        taking
    }

    /// Takes the rows of a snapshot; they are durable on return.
    async fn take(&self, parts: &mut Streaming<wire::SnapshotPart>) -> Result<Staged, Status> {
        use wire::snapshot_part::Part;
        let failed = |error| self.cannot_store(&error);
        let staged = self.node.env().engines.stage().map_err(failed)?;
        let mut hasher = crc32fast::Hasher::new();
        let mut count = 0_u64;
        loop {
            match parts.message().await?.and_then(|part| part.part) {
                Some(Part::Chunk(chunk)) => {
                    hasher.update(&chunk);
                    count += 1;
                    mvcc::snapshot::import(&**staged.engine(), chunk).map_err(failed)?;
                }
                Some(Part::Tail(tail)) if tail.chunks == count && tail.crc32 == hasher.clone().finalize() => {
                    break;
                }
                Some(Part::Tail(_) | Part::Head(_)) | None => return Err(incomplete()),
            }
        }
        let engine = Arc::clone(staged.engine());
        self.node.env().blocking(move || engine.flush()).await.map_err(failed)?;
        Ok(staged)
    }

    /// A disk that takes no snapshot takes nothing else either: the member ends, as for its log. What was sent wrongly is the
    /// sender's fault.
    fn cannot_store(&self, error: &EngineError) -> Status {
        let line = format!("cannot store a snapshot: {}", crate::env::error_chain(error));
        match error {
            EngineError::DiskFull { .. } | EngineError::Rocks { .. } | EngineError::Io { .. } => {
                self.node.env().fatal(&line);
            }
            EngineError::Corrupt { .. }
            | EngineError::Format { .. }
            | EngineError::Level(_)
            | EngineError::NoCheckpoint => {}
        }
        Status::internal(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Place;
    use crate::env::engines::SimEngines;
    use crate::raft::tests;
    use crate::wal::disk::FreeSpace;
    use crate::wal::disk_sim::SimDisk;

    /// Returns the peer port of a member, and the faults that it ended with.
    async fn service() -> (PeerService, Arc<Mutex<Vec<String>>>) {
        let faults: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&faults);
        let fatal = Arc::new(move |line: &str| told.lock().unwrap().push(line.to_owned()));
        let env = tests::env(Place::Simulation, SimDisk::new(1), SimEngines::default(), fatal);
        let stop = CancellationToken::new();
        let node = tests::start(env, stop.clone()).await.unwrap();
        (PeerService::new(node, stop), faults)
    }

    /// Returns what the sender of a snapshot is told, and the faults that the receiver ends with.
    async fn refused(error: EngineError) -> (Status, Vec<String>) {
        let (service, faults) = service().await;
        let status = service.cannot_store(&error);
        service.node.stop(&service.stop).await;
        let faults = faults.lock().unwrap().clone();
        (status, faults)
    }

    #[tokio::test]
    async fn a_snapshot_that_comes_later_ends_the_one_that_is_on_its_way() {
        let (service, _) = service().await;
        let first = service.supersede();
        assert!(!first.is_cancelled());
        // Each connection has a service of its own.
        let second = service.clone().supersede();
        assert!(first.is_cancelled() && !second.is_cancelled());
        service.node.stop(&service.stop).await;
    }

    #[tokio::test]
    async fn a_disk_that_takes_no_snapshot_ends_the_member() {
        let space = FreeSpace { path: "/d".to_owned(), free_bytes: 7, total_bytes: 9 };
        let source = || std::io::Error::other("the device is gone");
        let full = EngineError::DiskFull { space, source: source().into() };
        let broken = EngineError::Io { directory: "/d".to_owned(), source: source() };
        for (error, words) in [(full, "disk full in /d: 7 bytes free"), (broken, "the device is gone")] {
            let (status, faults) = refused(error).await;
            assert_eq!(status.code(), tonic::Code::Internal);
            let [fault] = faults.try_into().unwrap();
            assert!(fault.starts_with("cannot store a snapshot: ") && fault.contains(words), "{fault}");
        }
    }

    #[tokio::test]
    async fn a_snapshot_that_was_sent_wrongly_is_its_senders_fault() {
        let corrupt = EngineError::Corrupt { key: "k".to_owned(), reason: "no such row".to_owned() };
        for error in [corrupt, EngineError::Format { found: 9, supported: 1 }] {
            let (status, faults) = refused(error).await;
            assert_eq!((status.code(), faults), (tonic::Code::Internal, Vec::new()), "{status}");
        }
    }
}
