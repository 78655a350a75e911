//! A client of one store member over the etcd v3 API, that never retries: every call has one known or unknown outcome.

mod exchange;
mod lease;
mod lock;
mod snapshot;
mod watch;

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::{
    Compare, DeleteRangeRequest, HashKvRequest, PutRequest, RangeRequest, RequestOp, StatusRequest,
    StatusResponse, TxnRequest,
};
use proto::mvccpb::KeyValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::check::convergence::StateHash;
use crate::check::witness::LogEntry;
use crate::history::{Answer, KeyState, WatchSpec};

pub use watch::{WatchStream, Watched};

/// Longest wait for an answer. Far shorter than a fault: clients that waited through it would ask nothing while it lasts, and
/// miss what a cut-off member answers once the others have moved on.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest wait for a connection: members are on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Most bytes of a stream that are under way before a client reads them. Little, so that what a watch is not asked for soon waits at
/// the member: a client of etcd's own takes 64 KiB.
const STREAM_WINDOW_BYTES: u32 = 16 << 10;

/// What tonic answers when it could not connect, so that nothing was sent. Simulated connections say the same.
pub const NO_CONNECTION: &str = "tcp connect error";

/// Why a call brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The member refused before it proposed anything.
    #[error("{0}")]
    NotApplied(String),
    /// The call may have been applied, or may yet be.
    #[error("{0} (it may have happened)")]
    Unknown(String),
}

/// A client pinned to one member.
#[derive(Clone)]
pub struct MemberClient {
    channel: Channel,
    /// For streams, which have no deadline.
    streams: Channel,
}

impl MemberClient {
    /// Returns a client that connects when it is first used.
    ///
    /// # Errors
    /// When the endpoint is not a URL.
    pub fn new(endpoint: &str) -> Result<Self, tonic::transport::Error> {
        Self::over(endpoint, |endpoint| endpoint.connect_lazy())
    }

    /// Returns a client whose connections `connect` makes, such as those of a simulated network.
    ///
    /// # Errors
    /// When the endpoint is not a URL.
    pub fn over(
        endpoint: &str,
        connect: impl Fn(Endpoint) -> Channel,
    ) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(endpoint.to_owned())?;
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
        let streams = endpoint.clone().initial_stream_window_size(STREAM_WINDOW_BYTES);
        Ok(Self { channel: connect(endpoint.timeout(CALL_TIMEOUT)), streams: connect(streams) })
    }

    /// Reads a key, linearizably; returns its state and the header's revision.
    ///
    /// # Errors
    /// A read that fails did not happen.
    pub async fn read(&self, key: &str) -> Result<(Answer, i64), Failure> {
        self.range(RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..RangeRequest::default() })
            .await
    }

    /// Reads a key as this member has it, which may be old.
    ///
    /// # Errors
    /// A read that fails did not happen.
    pub async fn read_serializable(&self, key: &str) -> Result<(Answer, i64), Failure> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        self.range(RangeRequest { key, serializable: true, ..RangeRequest::default() }).await
    }

    async fn range(&self, request: RangeRequest) -> Result<(Answer, i64), Failure> {
        let response = KvClient::new(self.channel.clone()).range(request).await;
        let response = response.map_err(|status| Failure::NotApplied(text(&status)))?.into_inner();
        let revision = response.header.map_or(0, |header| header.revision);
        Ok((Answer::Read(response.kvs.first().map(key_state)), revision))
    }

    /// Writes a key.
    ///
    /// # Errors
    /// [`Failure`] says whether the write may have happened.
    pub async fn write(&self, key: &str, value: &str) -> Result<(Answer, i64), Failure> {
        let request = put(key, value);
        let response =
            KvClient::new(self.channel.clone()).put(request).await.map_err(|status| classify(&status))?;
        Ok((Answer::Written, response.into_inner().header.map_or(0, |header| header.revision)))
    }

    /// Writes a key if its mod revision is `expected` (0 = absent), else reads it, in one transaction.
    ///
    /// # Errors
    /// [`Failure`] says whether the write may have happened.
    pub async fn cas(&self, key: &str, expected: i64, value: &str) -> Result<(Answer, i64), Failure> {
        let key_bytes = Bytes::copy_from_slice(key.as_bytes());
        let read = RangeRequest { key: key_bytes.clone(), ..RangeRequest::default() };
        let compare = Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key_bytes,
            target_union: Some(TargetUnion::ModRevision(expected)),
            range_end: Bytes::new(),
        };
        let request = TxnRequest {
            compare: vec![compare],
            success: vec![RequestOp { request: Some(Request::RequestPut(put(key, value))) }],
            failure: vec![RequestOp { request: Some(Request::RequestRange(read)) }],
        };
        let response =
            KvClient::new(self.channel.clone()).txn(request).await.map_err(|status| classify(&status))?;
        let response = response.into_inner();
        let revision = response.header.map_or(0, |header| header.revision);
        if response.succeeded {
            return Ok((Answer::Swapped, revision));
        }
        let seen = response.responses.into_iter().find_map(|part| match part.response {
            Some(Response::ResponseRange(range)) => range.kvs.first().map(key_state),
            Some(Response::ResponsePut(_) | Response::ResponseDeleteRange(_) | Response::ResponseTxn(_))
            | None => None,
        });
        Ok((Answer::NotSwapped(seen), revision))
    }

    /// Asks the member about itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> Result<StatusResponse, Status> {
        Ok(MaintenanceClient::new(self.channel.clone()).status(StatusRequest {}).await?.into_inner())
    }

    /// Asks the member for the hash of its state at a revision.
    ///
    /// # Errors
    /// When it does not answer, or does not have this revision.
    pub async fn hash(&self, revision: i64) -> Result<StateHash, Status> {
        let request = HashKvRequest { revision };
        let answer = MaintenanceClient::new(self.channel.clone()).hash_kv(request).await?.into_inner();
        Ok(StateHash { revision, compacted: answer.compact_revision.max(0), hash: answer.hash })
    }

    /// Deletes every key that begins with `prefix`, which is not empty.
    ///
    /// # Errors
    /// [`Failure`] says whether it may have happened.
    pub async fn delete_prefix(&self, prefix: &str) -> Result<(), Failure> {
        let request = DeleteRangeRequest {
            key: Bytes::copy_from_slice(prefix.as_bytes()),
            range_end: prefix_end(prefix),
            prev_kv: false,
        };
        let response = KvClient::new(self.channel.clone()).delete_range(request).await;
        response.map(|_| ()).map_err(|status| classify(&status))
    }

    /// Reads the log of these revisions, as a watch of this member shows it; what is forgotten is left out. Returns where it
    /// begins then.
    ///
    /// # Errors
    /// When the watch ends before the last one is reached.
    pub async fn log(&self, revisions: RangeInclusive<i64>) -> Result<(i64, Vec<LogEntry>), Status> {
        let (mut from, until) = revisions.into_inner();
        let mut log = Vec::new();
        // The first revision is that of an empty store: no event shows it.
        let mut reached = from.max(2) - 1;
        while reached < until {
            let spec =
                WatchSpec { key: "\0".to_owned(), end: Some("\0".to_owned()), from, ..WatchSpec::default() };
            let mut stream = self.watch(&[spec]).await?;
            while reached < until {
                let notice = stream.next().await?.notice;
                if let Some(reason) = notice.canceled {
                    if notice.compacted < from {
                        return Err(Status::out_of_range(reason));
                    }
                    from = notice.compacted + 1;
                    reached = notice.compacted;
                    break;
                }
                for event in notice.events {
                    reached = event.revision;
                    log.push(LogEntry { revision: event.revision, key: event.key, state: event.state });
                }
            }
        }
        Ok((from, log))
    }
}

/// The end of the range of all keys that begin with `prefix`.
fn prefix_end(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Bytes::from(end);
        }
    }
    Bytes::from_static(b"\0")
}

fn put(key: &str, value: &str) -> PutRequest {
    let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
    PutRequest { key, value, ..PutRequest::default() }
}

fn key_state(kv: &KeyValue) -> KeyState {
    KeyState {
        value: String::from_utf8_lossy(&kv.value).into_owned(),
        version: kv.version,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        lease: kv.lease,
    }
}

/// Only answers that the store gives before it proposes, refusals of what it would have to apply (a lease or a revision that is
/// not there), and connections that never stood, are definite; all else may have been applied.
fn classify(status: &Status) -> Failure {
    let refused =
        ["etcdserver: no leader", "etcdserver: too many requests", "etcdserver: not capable", NO_CONNECTION];
    let is_refused = refused.contains(&status.message())
        || matches!(status.code(), Code::InvalidArgument | Code::NotFound | Code::OutOfRange);
    if is_refused { Failure::NotApplied(text(status)) } else { Failure::Unknown(text(status)) }
}

fn text(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
