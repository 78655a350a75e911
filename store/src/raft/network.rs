//! The asking end of peer calls.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use hyper_util::rt::TokioIo;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{SnapshotResponse, StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse};
use openraft::{AnyError, OptionalSend};
use prost::Message;
use proto::raft as wire;
use proto::raft::peer_client::PeerClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::address_book::{AddressBook, Target};
use super::append::{self, ANSWER_TIMEOUT, Answers, Sent};
use super::coalesce::coalesce;
use super::convert::{self, Malformed, VoteKind};
use super::silence::{Change, Silence};
use super::snapshot::{self, SnapshotData};
use super::state_machine::SnapshotOf;
use super::types::{AppendRequest, AppendResponse, Member, TypeConfig, Vote, VoteRequest, VoteResponse};
use crate::net::Net;

/// Metadata key of the sender's identity.
pub(crate) const IDENTITY_KEY: &str = "keelson-peer-bin";
/// Largest peer message: a read of the log is cut at 1 MiB plus one entry of at most a few MiB.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Stream and connection windows: a megabyte of entries must not wait for window updates.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Finds a peer that vanished without closing; well below what a person notices, above a scheduling hiccup.
pub(crate) const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
pub(crate) const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause before an unreachable peer is tried again; short, because its return ends a time without redundancy.
const BACKOFF: Duration = Duration::from_millis(100);
/// A peer that is given a snapshot may take this long to open and check it.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(600);

type RpcError = RPCError<TypeConfig>;

/// Who this member is, for the peers it talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    pub(crate) incarnation: u64,
}

/// Opens connections to peers.
#[derive(Clone)]
pub(crate) struct Peers {
    net: Arc<dyn Net>,
    identity: Identity,
    addresses: Arc<AddressBook>,
}

impl Peers {
    pub(crate) fn new(net: Arc<dyn Net>, identity: Identity) -> Self {
        Self { net, identity, addresses: Arc::default() }
    }

    /// Notes who belongs to the cluster now.
    pub(crate) fn note(&self, members: BTreeMap<u64, Member>) {
        self.addresses.replace(members);
    }

    /// Returns a lazy client of a member, which is taken to be as given while membership does not say it; 0 as its incarnation means
    /// that it is not known yet.
    pub(crate) fn client(&self, target: u64, member: &Member) -> Peer {
        let target = Target::new(target, member.clone(), Arc::clone(&self.addresses));
        let client = PeerClient::new(self.channel(target.clone()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Peer::new(client, target, self.identity, Appending::Pipelined)
    }

    fn channel(&self, target: Target) -> Channel {
        let net = Arc::clone(&self.net);
        let connector = tower::service_fn(move |_| {
            let connecting = net.connect(&target.address());
            async move { connecting.await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://peer")
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connector)
    }
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &Member) -> Peer {
        self.client(target, node)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Peer {
        Peer { appending: Appending::InTurn, ..self.client(target, node) }
    }
}

/// How requests to append travel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Appending {
    /// As many as there are, on a call of their own: the log.
    Pipelined,
    /// One after the other, on a call that outlives them: heartbeats, for which openraft opens a stream of one.
    InTurn,
}

/// A call with one request on it at a time.
struct OpenCall {
    requests: mpsc::Sender<wire::AppendRequest>,
    answers: tonic::Streaming<wire::AppendResponse>,
}

/// One member as this one sees it.
pub(crate) struct Peer {
    client: PeerClient<Channel>,
    target: Target,
    own: Identity,
    appending: Appending,
    call: Option<OpenCall>,
    silence: Silence,
}

impl Clone for Peer {
    /// Shares the connection; a call has one owner, and so has what was said of silence.
    fn clone(&self) -> Self {
        let (client, target) = (self.client.clone(), self.target.clone());
        Self::new(client, target, self.own, self.appending)
    }
}

impl OpenCall {
    async fn exchange(
        mut self,
        request: wire::AppendRequest,
    ) -> Result<(Self, wire::AppendResponse), Status> {
        let ended = || Status::unavailable("the peer ended the call");
        self.requests.send(request).await.map_err(|_| ended())?;
        let answer = self.answers.message().await?.ok_or_else(ended)?;
        Ok((self, answer))
    }
}

impl Peer {
    fn new(client: PeerClient<Channel>, target: Target, own: Identity, appending: Appending) -> Self {
        Self { client, target, own, appending, call: None, silence: Silence::default() }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let identity = wire::PeerIdentity {
            cluster_id: self.own.cluster_id,
            member_id: self.own.member_id,
            incarnation: self.own.incarnation,
            target_id: self.target.id,
            target_incarnation: self.target.incarnation(),
        };
        let mut request = Request::new(message);
        let identity = MetadataValue::from_bytes(&identity.encode_to_vec());
        request.metadata_mut().insert_bin(IDENTITY_KEY, identity);
        request
    }

    /// Returns `host:port` of its peer port.
    pub(crate) fn address(&self) -> String {
        self.target.address()
    }

    /// Opens a call for proposals; it ends when the member stops to answer.
    pub(crate) async fn propose(
        &mut self,
        proposals: impl Stream<Item = wire::ProposeRequest> + Send + 'static,
    ) -> Result<tonic::Streaming<wire::ProposeRefused>, Status> {
        let request = self.request(proposals);
        self.client.propose(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn read_index(&self, timeout: Duration) -> Result<wire::ReadIndexResponse, Status> {
        let mut client = self.client.clone();
        let request = self.request(wire::ReadIndexRequest {});
        in_time(timeout, client.read_index(request)).await
    }

    pub(crate) async fn keep_alive(
        &self,
        lease: i64,
        timeout: Duration,
    ) -> Result<wire::KeepAliveResponse, Status> {
        let mut client = self.client.clone();
        let request = self.request(wire::KeepAliveRequest { lease });
        in_time(timeout, client.keep_alive(request)).await
    }

    pub(crate) async fn lease_time(
        &self,
        lease: i64,
        timeout: Duration,
    ) -> Result<wire::LeaseTimeResponse, Status> {
        let mut client = self.client.clone();
        let request = self.request(wire::LeaseTimeRequest { lease });
        in_time(timeout, client.lease_time(request)).await
    }

    pub(crate) async fn cluster_info(&self, timeout: Duration) -> Result<wire::ClusterInfoResponse, Status> {
        let mut client = self.client.clone();
        let request = self.request(wire::ClusterInfoRequest {});
        in_time(timeout, client.cluster_info(request)).await
    }

    pub(crate) async fn state_digest(
        &self,
        index: u64,
        timeout: Duration,
    ) -> Result<wire::StateDigestResponse, Status> {
        let mut client = self.client.clone();
        let request = self.request(wire::StateDigestRequest { index });
        in_time(timeout, client.state_digest(request)).await
    }

    pub(crate) async fn change_members(
        &self,
        change: wire::ChangeMembersRequest,
        timeout: Duration,
    ) -> Result<wire::ChangeMembersResponse, Status> {
        let mut client = self.client.clone();
        let request = self.request(change);
        in_time(timeout, client.change_members(request)).await
    }

    /// Sends one request on the open call and waits for its answer.
    async fn exchange(&mut self, request: wire::AppendRequest) -> Result<wire::AppendResponse, Status> {
        // Taken out, so that an exchange that is cut short takes its call along: no answer ever meets another request.
        if let Some(call) = self.call.take()
            && let Ok((call, answer)) = call.exchange(request.clone()).await
        {
            self.call = Some(call);
            return Ok(answer);
        }
        // There was none, or it was of an earlier connection.
        let (requests, receiver) = mpsc::channel(1);
        let opening = self.request(ReceiverStream::new(receiver));
        let answers = self.client.stream_append(opening).await?.into_inner();
        let (call, answer) = OpenCall { requests, answers }.exchange(request).await?;
        self.call = Some(call);
        Ok(answer)
    }

    /// Logs that the member does not answer any more, or again.
    fn tell_silence(&mut self, error: Option<&Status>) {
        match (self.silence.note(error.is_none()), error) {
            (Some(Change::Began), Some(error)) => {
                let member = format!("{:x}", self.target.id);
                tracing::warn!(member, error = error.message(), "a member does not answer");
            }
            (Some(Change::Ended(silence)), _) => {
                let member = format!("{:x}", self.target.id);
                tracing::info!(member, after = ?silence, "a member answers again");
            }
            (Some(Change::Began) | None, _) => {}
        }
    }

    async fn ask_vote(
        &mut self,
        rpc: &VoteRequest,
        kind: VoteKind,
        option: &RPCOption,
    ) -> Result<VoteResponse, RpcError> {
        let request = self.request(convert::vote_request_to_wire(rpc, kind));
        let response = in_time(option.soft_ttl(), self.client.vote(request)).await.map_err(rpc_error)?;
        convert::vote_response(response).map_err(malformed)
    }
}

async fn in_time<T>(
    timeout: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(timeout, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("the peer did not answer in time")),
    }
}

/// Returns requests that end when the guard is dropped: the transport goes on to take those of a call whose answers nobody reads.
pub(super) fn while_held<S: Stream>(requests: S) -> (impl Stream<Item = S::Item>, DropGuard) {
    let given_up = CancellationToken::new();
    (requests.take_until(given_up.clone().cancelled_owned()), given_up.drop_guard())
}

/// Whether a failed call surely never reached the peer, because there was no connection.
pub(crate) fn never_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        if cause.is::<tonic::ConnectError>() {
            return true;
        }
        source = cause.source();
    }
    false
}

pub(super) fn rpc_error(status: Status) -> RpcError {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::FailedPrecondition | Code::Cancelled => {
            RPCError::Unreachable(Unreachable::new(&status))
        }
        _ => RPCError::Network(NetworkError::new(&status)),
    }
}

pub(super) fn malformed(malformed: Malformed) -> RpcError {
    tracing::warn!(error = %malformed, "a member's answer cannot be understood");
    RPCError::Network(NetworkError::new(&malformed))
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendRequest,
        option: RPCOption,
    ) -> Result<AppendResponse, RpcError> {
        if !convert::is_consecutive(&rpc) {
            return Err(append::purged());
        }
        let exchange = self.exchange(convert::append_request_to_wire(&rpc));
        let response = tokio::time::timeout(option.soft_ttl(), exchange)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("the peer did not answer in time")));
        self.tell_silence(response.as_ref().err());
        convert::append_response(response.map_err(rpc_error)?).map_err(malformed)
    }

    /// Pipelines requests on one call; answers come in the same order.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendRequest> + OptionalSend + Unpin + 'static,
    {
        if self.appending == Appending::InTurn {
            return stream_append_sequential(self, input, option);
        }
        let sent = Sent::default();
        // openraft's next call reads its requests where this one does.
        let (input, given_up) = while_held(input);
        let request = self.request(sent.messages(coalesce(input.boxed(), self.target.id)));
        Box::pin(async move {
            let call = self.client.stream_append(request);
            let responses = match in_time(ANSWER_TIMEOUT, call).await {
                Ok(responses) => responses,
                Err(status) => {
                    drop(given_up);
                    // openraft's own pause begins with the first request of a stream, and none was asked for.
                    tokio::time::sleep(BACKOFF).await;
                    return Err(rpc_error(status));
                }
            };
            let answers = Answers { responses, sent, _given_up: given_up };
            let answers = stream::unfold(Some(answers), |answers| async move {
                let mut answers = answers?;
                let answer = answers.next().await?;
                let goes_on = matches!(answer, Ok(Ok(_)));
                Some((answer, goes_on.then_some(answers)))
            });
            Ok::<BoxStream<'s, _>, _>(Box::pin(answers))
        })
    }

    async fn vote(&mut self, rpc: VoteRequest, option: RPCOption) -> Result<VoteResponse, RpcError> {
        self.ask_vote(&rpc, VoteKind::Real, &option).await
    }

    async fn pre_vote(&mut self, rpc: VoteRequest, option: RPCOption) -> Result<VoteResponse, RpcError> {
        self.ask_vote(&rpc, VoteKind::Pre, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let parts = snapshot_parts(&vote, snapshot.snapshot)
            .await
            .map_err(|error| StreamingError::Network(NetworkError::new(&error)))?;
        let request = self.request(parts);
        let call = in_time(SNAPSHOT_TIMEOUT, self.client.install_snapshot(request));
        let response = tokio::select! {
            biased;
            closed = cancel => return Err(StreamingError::Closed(closed)),
            response = call => response.map_err(|status| {
                StreamingError::Unreachable(Unreachable::new(&status))
            })?,
        };
        let found = response.vote.ok_or(Malformed("snapshot response"));
        let found = found.map_err(|error| StreamingError::Network(NetworkError::new(&error)))?;
        Ok(SnapshotResponse::new(convert::vote(found)))
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let request = self.request(wire::TransferRequest {
            from_leader: Some(convert::vote_to_wire(req.from_leader())),
            to: *req.to_node_id(),
            last: req.last_log_id().map(|id| convert::log_id_to_wire(*id)),
        });
        let response = in_time(option.soft_ttl(), self.client.transfer(request)).await.map_err(rpc_error)?;
        match response.result {
            Some(wire::transfer_response::Result::Accepted(_)) => Ok(Ok(())),
            _ => Err(RPCError::Network(NetworkError::new(&AnyError::error("the peer refused to take over")))),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(BACKOFF)))
    }
}

/// Turns this member's state into the messages of a snapshot.
async fn snapshot_parts(
    vote: &Vote,
    data: SnapshotData,
) -> io::Result<impl Stream<Item = wire::SnapshotPart> + Send + 'static> {
    let SnapshotData::Local(machine) = data else {
        return Err(io::Error::other("only the own state can be sent"));
    };
    let export = snapshot::export(&machine).await?;
    let head = wire::SnapshotHead {
        vote: Some(convert::vote_to_wire(vote)),
        meta: Some(convert::snapshot_meta_to_wire(&export.meta)),
    };
    let first = stream::once(async { part(wire::snapshot_part::Part::Head(head)) });
    let state = (export.chunks, crc32fast::Hasher::new(), 0_u64);
    let rest = stream::unfold(Some(state), |state| async move {
        let (mut chunks, mut hasher, count) = state?;
        match chunks.recv().await {
            Some(Ok(chunk)) => {
                hasher.update(&chunk);
                let message = part(wire::snapshot_part::Part::Chunk(chunk));
                Some((message, Some((chunks, hasher, count + 1))))
            }
            None => {
                let tail = wire::SnapshotTail { chunks: count, crc32: hasher.finalize() };
                Some((part(wire::snapshot_part::Part::Tail(tail)), None))
            }
            // Without a tail the receiver installs nothing.
            Some(Err(error)) => {
                tracing::error!(error = crate::env::error_chain(&error), "cannot read rows for a snapshot");
                None
            }
        }
    });
    Ok(first.chain(rest))
}

fn part(part: wire::snapshot_part::Part) -> wire::SnapshotPart {
    wire::SnapshotPart { part: Some(part) }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::net::TcpNet;

    /// Requests of which there are none yet, and word of when nobody can ask for one any more.
    struct Waiting {
        _asked: tokio::sync::oneshot::Sender<()>,
    }

    impl Stream for Waiting {
        type Item = AppendRequest;

        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<AppendRequest>> {
            Poll::Pending
        }
    }

    /// Answers the first call of a connection with the head of a response, and says no more.
    async fn answer_one(mut connection: TcpStream) -> io::Result<TcpStream> {
        const FRAME_HEAD_BYTES: usize = 9;
        const HEADERS: u8 = 1;
        const END_HEADERS: u8 = 4;
        let mut preface = [0; 24];
        connection.read_exact(&mut preface).await?;
        connection.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
        loop {
            let mut head = [0; FRAME_HEAD_BYTES];
            connection.read_exact(&mut head).await?;
            let [a, b, c, kind, ..] = head;
            let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap()];
            connection.read_exact(&mut payload).await?;
            if kind == HEADERS {
                // :status 200 and content-type, as HPACK's static table numbers them.
                let fields = [&[0x88, 0x5f, 16], b"application/grpc".as_slice()].concat();
                let length = u8::try_from(fields.len()).unwrap();
                connection.write_all(&[0, 0, length, HEADERS, END_HEADERS, 0, 0, 0, 1]).await?;
                connection.write_all(&fields).await?;
                return Ok(connection);
            }
        }
    }

    #[tokio::test]
    async fn a_call_that_was_given_up_takes_no_more_requests() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { answer_one(listener.accept().await?.0).await });
        let identity = Identity { cluster_id: 1, member_id: 1, incarnation: 1 };
        let member = Member { peer_urls: vec![url], ..Member::default() };
        let mut peer = Peers::new(Arc::new(TcpNet::default()), identity).client(2, &member);
        let (asked, left) = tokio::sync::oneshot::channel();
        let requests = Waiting { _asked: asked };
        let answers = peer.stream_append(requests, RPCOption::new(ANSWER_TIMEOUT)).await;
        let _connection = serving.await.unwrap().unwrap();
        // Its connection stays as it is.
        drop(answers.expect("the call was answered"));
        let left = tokio::time::timeout(KEEP_ALIVE_TIMEOUT / 2, left).await;
        assert!(left.is_ok(), "the call that was given up would take the requests of the next one");
    }
}
