//! Lets a request that only says what is committed wait for the next entries, which say it too.
//!
//! A lone client writes, is answered, and writes again. Without this every follower would be told of the commit right before it
//! is sent the next entry, and half of all messages and answers would carry nothing else.

use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use openraft::EntryPayload;
use openraft::entry::RaftEntry;

use super::types::{AppendRequest, Entry};

/// How much later a follower may apply an entry that nobody there waits for. A client on this machine needs a fifth of it to
/// write again, one in the same data centre about as much; a person who watches a follower does not notice it.
const HOLD: Duration = Duration::from_millis(1);

/// Returns the requests of `input` to the member `target`, without those that a later one makes needless.
pub(crate) fn coalesce<S>(input: S, target: u64) -> impl Stream<Item = AppendRequest> + Send + 'static
where
    S: Stream<Item = AppendRequest> + Send + Unpin + 'static,
{
    // It may end while a request is held; it is not asked again after that one.
    let requests = Requests { input: input.fuse(), target, held: None, awaited: None };
    stream::unfold(requests, |mut requests| async move {
        let request = requests.next().await?;
        Some((request, requests))
    })
}

struct Requests<S> {
    input: S,
    target: u64,
    /// Says only what is committed, and waits.
    held: Option<AppendRequest>,
    /// Newest entry that a client of the target waits for, until the target was told that it is committed.
    awaited: Option<u64>,
}

impl<S: Stream<Item = AppendRequest> + Unpin> Requests<S> {
    async fn next(&mut self) -> Option<AppendRequest> {
        loop {
            let next = if self.held.is_some() {
                match tokio::time::timeout(HOLD, self.input.next()).await {
                    Ok(next) => next,
                    Err(_) => return self.held.take(),
                }
            } else {
                self.input.next().await
            };
            let Some(request) = next else { return self.held.take() };
            // Whatever comes later says everything that waited.
            self.held = None;
            if self.may_wait(&request) {
                self.held = Some(request);
                continue;
            }
            self.note(&request);
            return Some(request);
        }
    }

    fn may_wait(&self, request: &AppendRequest) -> bool {
        let tells = committed(request) >= self.awaited;
        request.entries.is_empty() && !(self.awaited.is_some() && tells)
    }

    fn note(&mut self, request: &AppendRequest) {
        let own = request.entries.iter().filter(|entry| is_from(entry, self.target));
        self.awaited = self.awaited.max(own.map(|entry| entry.log_id().index()).max());
        if committed(request) >= self.awaited {
            self.awaited = None;
        }
    }
}

fn committed(request: &AppendRequest) -> Option<u64> {
    request.leader_commit.map(|id| id.index())
}

fn is_from(entry: &Entry, member: u64) -> bool {
    match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.origin == member,
        EntryPayload::Blank | EntryPayload::Membership(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::mpsc;
    use tokio::time::Instant;
    use tokio_stream::wrappers::UnboundedReceiverStream;

    use super::*;
    use crate::raft::types::{LogId, Proposal, Vote};

    const TARGET: u64 = 2;
    const OTHER: u64 = 3;

    fn id(index: u64) -> LogId {
        LogId::new_term_index(1, index)
    }

    fn request(entries: Vec<Entry>, committed: u64) -> AppendRequest {
        let vote = Vote::new_committed(1, 1);
        AppendRequest { vote, prev_log_id: None, entries, leader_commit: Some(id(committed)) }
    }

    fn entry(index: u64, origin: u64) -> Entry {
        let proposal = Proposal { origin, request_id: index, command: Bytes::new() };
        Entry { log_id: id(index), payload: EntryPayload::Normal(proposal) }
    }

    struct Harness {
        input: mpsc::UnboundedSender<AppendRequest>,
        output: stream::BoxStream<'static, AppendRequest>,
    }

    fn harness() -> Harness {
        let (input, requests) = mpsc::unbounded_channel();
        Harness { input, output: coalesce(UnboundedReceiverStream::new(requests), TARGET).boxed() }
    }

    #[tokio::test(start_paused = true)]
    async fn input_that_ends_while_a_request_waits_is_not_asked_again() {
        let input =
            stream::unfold(Some(request(Vec::new(), 1)), |request| async { request.map(|it| (it, None)) });
        let sent: Vec<_> = coalesce(Box::pin(input), TARGET).collect().await;
        assert_eq!(sent.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_travels_with_the_next_entries() {
        let harness = harness();
        harness.input.send(request(vec![entry(1, OTHER)], 0)).unwrap();
        harness.input.send(request(Vec::new(), 1)).unwrap();
        harness.input.send(request(vec![entry(2, OTHER)], 1)).unwrap();
        drop(harness.input);
        let sent: Vec<(usize, Option<u64>)> =
            harness.output.map(|request| (request.entries.len(), committed(&request))).collect().await;
        assert_eq!(sent, [(1, Some(0)), (1, Some(1))]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_does_not_wait_longer_than_the_hold() {
        let mut harness = harness();
        harness.input.send(request(Vec::new(), 1)).unwrap();
        let began = Instant::now();
        let sent = harness.output.next().await.unwrap();
        assert_eq!((committed(&sent), began.elapsed()), (Some(1), HOLD));
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_that_a_client_of_the_target_waits_for_does_not_wait() {
        let mut harness = harness();
        harness.input.send(request(vec![entry(1, TARGET)], 0)).unwrap();
        harness.input.send(request(Vec::new(), 1)).unwrap();
        let began = Instant::now();
        harness.output.next().await.unwrap();
        let sent = harness.output.next().await.unwrap();
        assert_eq!((committed(&sent), began.elapsed()), (Some(1), Duration::ZERO));
        // Told once, it is awaited no more.
        harness.input.send(request(Vec::new(), 1)).unwrap();
        harness.output.next().await.unwrap();
        assert_eq!(began.elapsed(), HOLD);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_kept_back_when_the_stream_ends() {
        let mut harness = harness();
        harness.input.send(request(Vec::new(), 1)).unwrap();
        drop(harness.input);
        let began = Instant::now();
        assert!(harness.output.next().await.is_some());
        assert!(harness.output.next().await.is_none());
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
