//! A client of one store member over the etcd v3 API, that never retries: every call has one known or unknown outcome.

use std::time::Duration;

use bytes::Bytes;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, StatusRequest, StatusResponse, TxnRequest,
    WatchCreateRequest, WatchRequest, watch_request,
};
use proto::mvccpb::{KeyValue, event::EventType};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::check::witness::LogEntry;
use crate::history::{Answer, KeyState};

/// Longest wait for an answer. Far shorter than a fault: clients that waited through it would ask nothing while it lasts, and
/// miss what a cut-off member answers once the others have moved on.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest wait for a connection: members are on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// What tonic answers when it could not connect, so that nothing was sent.
const NO_CONNECTION: &str = "tcp connect error";

/// Why a call brought no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The member refused before it proposed anything.
    NotApplied(String),
    /// The call may have been applied, or may yet be.
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
        let endpoint = Endpoint::from_shared(endpoint.to_owned())?;
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
        Ok(Self {
            channel: endpoint.clone().timeout(CALL_TIMEOUT).connect_lazy(),
            streams: endpoint.connect_lazy(),
        })
    }

    /// Reads a key, linearizably; returns its state and the header's revision.
    ///
    /// # Errors
    /// A read that fails did not happen.
    pub async fn read(&self, key: &str) -> Result<(Answer, i64), Failure> {
        let request = RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..RangeRequest::default() };
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

    /// Reads the whole log from the first revision up to `until`, as a watch of this member shows it.
    ///
    /// # Errors
    /// When the watch ends before `until` is reached.
    pub async fn log(&self, until: i64) -> Result<Vec<LogEntry>, Status> {
        let create = WatchCreateRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            start_revision: 1,
            ..WatchCreateRequest::default()
        };
        let create = WatchRequest { request_union: Some(watch_request::RequestUnion::CreateRequest(create)) };
        // The request side stays open until the log is complete: a half-closed watch ends.
        let requests = tokio_stream::StreamExt::chain(tokio_stream::once(create), tokio_stream::pending());
        let mut stream = WatchClient::new(self.streams.clone()).watch(requests).await?.into_inner();
        let mut log = Vec::new();
        let mut reached = 1;
        while reached < until {
            let response = stream.message().await?.ok_or_else(|| Status::unavailable("the watch ended"))?;
            if response.canceled {
                return Err(Status::out_of_range(response.cancel_reason));
            }
            for event in response.events {
                let is_put = event.r#type() == EventType::Put;
                let Some(kv) = event.kv else { continue };
                reached = kv.mod_revision;
                let key = String::from_utf8_lossy(&kv.key).into_owned();
                log.push(LogEntry { revision: kv.mod_revision, key, state: is_put.then(|| key_state(&kv)) });
            }
        }
        Ok(log)
    }
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
    }
}

/// Only answers that the store gives before it proposes, and connections that never stood, are definite; all else may have
/// been applied.
fn classify(status: &Status) -> Failure {
    let refused =
        ["etcdserver: no leader", "etcdserver: too many requests", "etcdserver: not capable", NO_CONNECTION];
    let is_refused = refused.contains(&status.message()) || status.code() == Code::InvalidArgument;
    if is_refused { Failure::NotApplied(text(status)) } else { Failure::Unknown(text(status)) }
}

fn text(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
