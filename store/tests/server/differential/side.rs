//! One of the two servers that are compared, and its answers in a form that can be compared.

use std::time::Duration;

use proto::etcdserverpb as pb;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::generate::Request;

/// What a server answered: the message without what belongs to that server, or code and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Ok { text: String, revision: i64 },
    Err { code: Code, text: String },
}

impl Answer {
    /// Returns the store revision that the answer names.
    pub(crate) fn revision(&self) -> Option<i64> {
        match self {
            Self::Ok { revision, .. } => Some(*revision),
            Self::Err { .. } => None,
        }
    }
}

pub(crate) struct Side {
    kv: pb::kv_client::KvClient<Channel>,
    lease: pb::lease_client::LeaseClient<Channel>,
    watch: pb::watch_client::WatchClient<Channel>,
}

impl Side {
    pub(crate) fn new(channel: Channel) -> Self {
        Self {
            kv: pb::kv_client::KvClient::new(channel.clone()),
            lease: pb::lease_client::LeaseClient::new(channel.clone()),
            watch: pb::watch_client::WatchClient::new(channel),
        }
    }

    /// Watches until `events` have come or the watch was cancelled, and returns what came.
    pub(crate) async fn watch(&mut self, request: pb::WatchCreateRequest, until: Until) -> Watched {
        let (sender, requests) = tokio::sync::mpsc::channel(4);
        let create = pb::watch_request::RequestUnion::CreateRequest(request);
        sender.send(pb::WatchRequest { request_union: Some(create) }).await.unwrap();
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        let mut responses = self.watch.watch(requests).await.unwrap().into_inner();
        let mut watched = Watched::default();
        let mut reached = 0;
        let deadline = tokio::time::Instant::now() + WATCH_TIMEOUT;
        loop {
            let is_done = match until {
                Until::Revision(revision) => reached >= revision,
                Until::Like(events) => watched.created && watched.events.len() >= events,
            };
            if is_done {
                return watched;
            }
            let next = tokio::time::timeout(PROGRESS_INTERVAL, responses.message()).await;
            match next {
                Ok(response) => {
                    let response = response.unwrap().expect("the stream goes on");
                    reached = reached.max(watched.add(response));
                    if watched.canceled.is_some() {
                        return watched;
                    }
                }
                Err(_) if tokio::time::Instant::now() > deadline => return watched,
                Err(_) => {
                    let progress =
                        pb::watch_request::RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                    sender.send(pb::WatchRequest { request_union: Some(progress) }).await.unwrap();
                }
            }
        }
    }

    pub(crate) async fn call(&mut self, request: Request) -> Answer {
        match request {
            Request::Range(request) => {
                let answer = self.kv.range(request.clone()).await;
                shown(answer, |answer| {
                    settle(answer, &request);
                    &mut answer.header
                })
            }
            Request::Put(request) => shown(self.kv.put(request).await, |answer| &mut answer.header),
            Request::DeleteRange(request) => {
                shown(self.kv.delete_range(request).await, |answer| &mut answer.header)
            }
            Request::Txn(request) => {
                let answer = self.kv.txn(request.clone()).await;
                shown(answer, |answer| {
                    settle_steps(answer, &request);
                    &mut answer.header
                })
            }
            Request::Compact(request) => shown(self.kv.compact(request).await, |answer| &mut answer.header),
            Request::LeaseGrant(request) => {
                shown(self.lease.lease_grant(request).await, |answer| &mut answer.header)
            }
            Request::LeaseRevoke(request) => {
                shown(self.lease.lease_revoke(request).await, |answer| &mut answer.header)
            }
            Request::LeaseTimeToLive(request) => {
                let answer = self.lease.lease_time_to_live(request).await;
                shown(answer, |answer| {
                    // Time goes by; whether there is any left is the answer.
                    answer.ttl = answer.ttl.signum();
                    answer.keys.sort();
                    &mut answer.header
                })
            }
            Request::Watch(_) => unreachable!("watches are compared by themselves"),
            Request::LeaseLeases => {
                let answer = self.lease.lease_leases(pb::LeaseLeasesRequest {}).await;
                shown(answer, |answer| {
                    answer.leases.sort_by_key(|lease| lease.id);
                    &mut answer.header
                })
            }
        }
    }
}

/// How long a watch goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// Until the stream says that it has shown everything up to a revision.
    Revision(i64),
    /// Until as many events have come as elsewhere: some versions of etcd report progress too early.
    Like(usize),
}

/// Longest wait for events.
const WATCH_TIMEOUT: Duration = Duration::from_secs(20);
/// How often progress is asked for: a stream that is not there yet does not answer.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(5);

/// What a watch showed; how it was cut into responses is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watched {
    created: bool,
    /// Compact revision and reason.
    canceled: Option<(i64, String)>,
    pub(crate) events: Vec<String>,
}

impl Watched {
    /// Returns how long the same watch must go on elsewhere to show the same.
    pub(crate) fn until(&self) -> Until {
        match &self.canceled {
            Some(_) => Until::Like(usize::MAX),
            None => Until::Like(self.events.len()),
        }
    }

    /// Returns how it ended.
    pub(crate) fn end(&self) -> &'static str {
        match &self.canceled {
            Some((0, _)) => "refused",
            Some(_) => "compacted",
            None => "ok",
        }
    }

    /// Returns the revision up to which everything has been shown.
    fn add(&mut self, response: pb::WatchResponse) -> i64 {
        self.created |= response.created;
        if response.canceled {
            self.canceled = Some((response.compact_revision, response.cancel_reason));
        }
        let is_progress = response.events.is_empty() && !response.created;
        self.events.extend(response.events.iter().map(|event| format!("{event:?}")));
        let revision = response.header.map_or(0, |header| header.revision);
        if is_progress { revision } else { 0 }
    }
}

/// Removes what differs and is meant to.
fn settle(answer: &mut pb::RangeResponse, request: &pb::RangeRequest) {
    // Keys differ; other fields may be equal, and then any order is right.
    if request.sort_target() != pb::range_request::SortTarget::Key {
        answer.kvs.sort_by(|left, right| left.key.cmp(&right.key));
    }
    // Up to 3.6 etcd tells the lease of a key without its value; 3.7 does not, and we are like 3.7.
    if request.keys_only {
        answer.kvs.iter_mut().for_each(|kv| kv.lease = 0);
    }
}

/// Settles the reads of the branch that was taken.
fn settle_steps(answer: &mut pb::TxnResponse, request: &pb::TxnRequest) {
    use pb::request_op::Request as Step;
    use pb::response_op::Response;
    let steps = if answer.succeeded { &request.success } else { &request.failure };
    for (response, step) in answer.responses.iter_mut().zip(steps) {
        match (&mut response.response, &step.request) {
            (Some(Response::ResponseRange(answer)), Some(Step::RequestRange(request))) => {
                settle(answer, request);
            }
            (Some(Response::ResponseTxn(answer)), Some(Step::RequestTxn(request))) => {
                settle_steps(answer, request);
            }
            _ => {}
        }
    }
}

fn shown<T: std::fmt::Debug>(
    answer: Result<tonic::Response<T>, Status>,
    header: impl FnOnce(&mut T) -> &mut Option<pb::ResponseHeader>,
) -> Answer {
    match answer {
        Ok(answer) => {
            let mut answer = answer.into_inner();
            let header = header(&mut answer);
            let revision = header.as_ref().map_or(0, |header| header.revision);
            *header = Some(pb::ResponseHeader { revision, ..pb::ResponseHeader::default() });
            Answer::Ok { text: format!("{answer:?}"), revision }
        }
        Err(status) => Answer::Err { code: status.code(), text: status.message().to_owned() },
    }
}
