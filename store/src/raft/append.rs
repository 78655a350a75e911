//! The sending end of an append stream: requests in, their answers out in the same order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::Stream;
use openraft::entry::RaftEntry;
use openraft::errors::{NetworkError, RPCError};
use openraft::raft::StreamAppendResult;
use proto::raft as wire;
use tokio_util::sync::DropGuard;
use tonic::Status;

use super::convert::{self, Malformed};
use super::network::{malformed, rpc_error};
use super::types::{AppendRequest, AppendResponse, LogId, TypeConfig};

/// An append that is not answered in this time is sent anew. openraft asks for 0.75 heartbeats, but a disk may need
/// longer for one sync, and heartbeats have a connection of their own.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// What has become of the requests of one stream.
#[derive(Clone, Default)]
pub(super) struct Sent(Arc<Mutex<Progress>>);

#[derive(Default)]
struct Progress {
    /// Where each request begins and ends, until it is answered.
    unanswered: VecDeque<(Option<LogId>, Option<LogId>)>,
    /// Whether the stream ended because entries that come next are purged.
    met_purged: bool,
}

/// The peer needs entries that are purged; raft has to see anew what it lacks.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the entries that come next were purged")]
struct Purged;

impl Sent {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request; nothing is sent from the first one on whose entries do not follow each other.
    ///
    /// openraft (0.10.0-alpha.37) may take up an order again that it has replaced long ago, and read from where entries have been purged
    /// since. What the log still has then begins further on.
    fn note(&self, request: &AppendRequest) -> Option<wire::AppendRequest> {
        let mut progress = self.lock();
        if !convert::is_consecutive(request) {
            progress.met_purged = true;
            return None;
        }
        let last = request.entries.last().map(|entry| entry.log_id()).or(request.prev_log_id);
        progress.unanswered.push_back((request.prev_log_id, last));
        Some(convert::append_request_to_wire(request))
    }

    /// Turns requests into messages.
    pub(super) fn messages<S>(&self, requests: S) -> impl Stream<Item = wire::AppendRequest> + Send + 'static
    where
        S: Stream<Item = AppendRequest> + Send + 'static,
    {
        let sent = self.clone();
        tokio_stream::StreamExt::map_while(requests, move |request| sent.note(&request))
    }
}

/// The answers to what was sent.
pub(super) struct Answers {
    pub(super) responses: tonic::Streaming<wire::AppendResponse>,
    pub(super) sent: Sent,
    /// Nobody asks for another request once nobody waits for its answer.
    pub(super) _given_up: DropGuard,
}

type RpcError = RPCError<TypeConfig>;

impl Answers {
    /// Returns the next answer; `None` when all requests are answered and no more come.
    pub(super) async fn next(&mut self) -> Option<Result<StreamAppendResult<TypeConfig>, RpcError>> {
        loop {
            let had_unanswered = !self.sent.lock().unanswered.is_empty();
            match tokio::time::timeout(ANSWER_TIMEOUT, self.responses.message()).await {
                Ok(Ok(Some(response))) => return Some(self.sent.answer(response)),
                Ok(Ok(None)) => return self.sent.end(),
                Ok(Err(status)) => return Some(Err(rpc_error(status))),
                // An idle stream is no fault; a request without an answer is one.
                Err(_) if had_unanswered => {
                    let status = Status::deadline_exceeded("no answer on the append stream");
                    return Some(Err(rpc_error(status)));
                }
                Err(_) => {}
            }
        }
    }
}

impl Sent {
    fn answer(&self, response: wire::AppendResponse) -> Result<StreamAppendResult<TypeConfig>, RpcError> {
        let request = self.lock().unanswered.pop_front();
        let (previous, last) = request.ok_or_else(|| malformed(Malformed("unasked answer")))?;
        let response = convert::append_response(response).map_err(malformed)?;
        if matches!(response, AppendResponse::Conflict) && previous.is_none() {
            return Err(malformed(Malformed("conflict before the first entry")));
        }
        Ok(response.into_stream_result(previous, last))
    }

    /// Says why the peer has ended the stream: an error makes raft look anew at what the peer needs.
    fn end(&self) -> Option<Result<StreamAppendResult<TypeConfig>, RpcError>> {
        let met_purged = self.lock().met_purged;
        met_purged.then(|| {
            tracing::debug!("an append stream met entries that are purged");
            Err(purged())
        })
    }
}

/// Returns the error of a request whose entries do not follow each other.
pub(super) fn purged() -> RpcError {
    RPCError::Network(NetworkError::new(&Purged))
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};

    use super::*;
    use crate::raft::types::{Entry, Payload, Vote};

    fn id(index: u64) -> LogId {
        LogId::new_term_index(1, index)
    }

    fn request(previous: u64, entries: &[u64]) -> AppendRequest {
        let entry = |index: &u64| Entry { log_id: id(*index), payload: Payload::Blank };
        let entries = entries.iter().map(entry).collect();
        AppendRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(id(previous)),
            entries,
            leader_commit: None,
        }
    }

    async fn sent(requests: Vec<AppendRequest>) -> (usize, Sent) {
        let sent = Sent::default();
        let messages = sent.messages(stream::iter(requests)).collect::<Vec<_>>().await;
        (messages.len(), sent)
    }

    #[tokio::test]
    async fn nothing_is_sent_from_where_entries_are_missing_and_raft_hears_of_it() {
        let (count, sent) = sent(vec![request(4, &[5, 6]), request(6, &[9]), request(9, &[10])]).await;
        assert_eq!(count, 1);
        let answered = wire::append_response::Result::Partial(wire::WalPosition {
            id: Some(convert::log_id_to_wire(id(6))),
        });
        let answer = sent.answer(wire::AppendResponse { result: Some(answered) }).unwrap();
        assert_eq!(answer.unwrap(), Some(id(6)));
        let error = sent.end().unwrap().unwrap_err();
        assert!(error.to_string().contains("were purged"), "{error}");
    }

    #[tokio::test]
    async fn a_stream_whose_entries_follow_each_other_ends_without_a_word() {
        let (count, sent) = sent(vec![request(4, &[5, 6]), request(6, &[]), request(6, &[7])]).await;
        assert_eq!(count, 3);
        assert!(sent.end().is_none());
        let unasked = Sent::default().answer(wire::AppendResponse { result: None });
        assert!(unasked.is_err());
    }
}
