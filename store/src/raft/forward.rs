//! Proposals on their way from this member's clients to the leader.
//!
//! One call per leader stays open and carries them all, so that a proposal costs a message and not a call. The leader says
//! only what it did not take; what it took is answered by this member's own state machine once it applies the entry.
//!
//! ```text
//! sent ──applied here──► answered
//!   ├──refused────────► nothing was proposed: the client's task may try again
//!   ├──call has ended─► may have been proposed: waits a little for its entry, then is of unknown outcome
//!   └──a snapshot came► may be in it, and is applied here no more: likewise
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt, stream};
use proto::raft as wire;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Status, Streaming};

use super::convert;
use super::network::{Peer, never_sent};
use super::node::{Forwarded, Node};
use super::state_machine::{AppliedEntry, Observer};
use super::types::Reply;
use crate::mvcc::Store;

pub(crate) use wire::propose_refused::Reason;

/// Proposals that queue for one call; more wait in their clients' tasks.
const QUEUE_MAX: usize = 1024;
/// Proposals of one call that the leader works on at a time; the rest stays in the connection's window.
const PROPOSING_MAX: usize = 4096;

/// Clients of this member whose proposals travel through another one.
pub(crate) struct Waiters {
    member_id: u64,
    waiting: Mutex<Waiting>,
    next: Box<dyn Observer>,
}

#[derive(Default)]
struct Waiting {
    /// By request id.
    clients: BTreeMap<u64, Waiter>,
    /// Calls that have not ended. Nobody waits for another: its end was told to everyone that there was.
    open: BTreeSet<u64>,
}

struct Waiter {
    /// The call that carries it.
    call: u64,
    applied: oneshot::Sender<Reply>,
    refused: Option<oneshot::Sender<Reason>>,
}

/// What the client's task waits for.
pub(crate) struct Receipt {
    pub(crate) applied: oneshot::Receiver<Reply>,
    pub(crate) refused: oneshot::Receiver<Reason>,
    _forget: Forget,
}

/// Removes a waiter whose client no longer waits.
struct Forget {
    waiters: Arc<Waiters>,
    request_id: u64,
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.waiters.lock().clients.remove(&self.request_id);
    }
}

impl Waiters {
    pub(crate) fn new(member_id: u64, next: Box<dyn Observer>) -> Self {
        Self { member_id, waiting: Mutex::default(), next }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().clients.len()
    }

    fn opened(&self, call: u64) {
        self.lock().open.insert(call);
    }

    fn is_open(&self, call: u64) -> bool {
        self.lock().open.contains(&call)
    }

    /// Lets a client wait for what it is about to send through a call; `None` when that has ended.
    fn register(self: &Arc<Self>, call: u64, request_id: u64) -> Option<Receipt> {
        let (applied_sender, applied) = oneshot::channel();
        let (refused_sender, refused) = oneshot::channel();
        let waiter = Waiter { call, applied: applied_sender, refused: Some(refused_sender) };
        let mut waiting = self.lock();
        if !waiting.open.contains(&call) {
            return None;
        }
        waiting.clients.insert(request_id, waiter);
        Some(Receipt { applied, refused, _forget: Forget { waiters: Arc::clone(self), request_id } })
    }

    fn refuse(&self, request_id: u64, reason: Reason) {
        let waiter = self.lock().clients.get_mut(&request_id).and_then(|waiter| waiter.refused.take());
        if let Some(refused) = waiter {
            // The client may have given up.
            let _ = refused.send(reason);
        }
    }

    /// Tells everyone whose proposal went through a call that it has ended.
    fn ended(&self, call: u64, reason: Reason) {
        let mut waiting = self.lock();
        waiting.open.remove(&call);
        tell(waiting.clients.values_mut().filter(|waiter| waiter.call == call), reason);
    }
}

fn tell<'a>(waiters: impl Iterator<Item = &'a mut Waiter>, reason: Reason) {
    for refused in waiters.filter_map(|waiter| waiter.refused.take()) {
        // The client may have given up.
        let _ = refused.send(reason);
    }
}

impl Observer for Waiters {
    fn applied(&self, entry: AppliedEntry) {
        let is_own = entry.origin == self.member_id;
        let waiter = if is_own { self.lock().clients.remove(&entry.request_id) } else { None };
        let waiting = waiter.map(|waiter| (waiter.applied, entry.applied.answer.clone()));
        let place = Some(entry.place);
        // Watchers first: who is answered finds its own write in a watch that is up to date.
        self.next.applied(entry);
        if let Some((applied, answer)) = waiting {
            // The client may have given up.
            let _ = applied.send(Reply { answer: Some(answer), place });
        }
    }

    fn replaced(&self, store: &Store) {
        self.next.replaced(store);
        tell(self.lock().clients.values_mut(), Reason::Unknown);
    }
}

/// Sends proposals to whoever leads.
pub(crate) struct Forwarding {
    waiters: Arc<Waiters>,
    calls: Mutex<Calls>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Default)]
struct Calls {
    opened: u64,
    current: Option<Call>,
}

#[derive(Clone)]
struct Call {
    leader: u64,
    number: u64,
    requests: mpsc::Sender<wire::ProposeRequest>,
}

impl Forwarding {
    pub(crate) fn new(waiters: Arc<Waiters>, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self { waiters, calls: Mutex::default(), tasks, stop }
    }

    /// Sends a proposal; `None` when it was surely not sent.
    pub(crate) async fn send(
        &self,
        leader: u64,
        peer: impl FnOnce() -> Option<Peer>,
        request: wire::ProposeRequest,
    ) -> Option<Receipt> {
        let call = self.call(leader, peer)?;
        let request_id = request.proposal.as_ref().map_or(0, |proposal| proposal.request_id);
        // Registered first: whoever ends the call finds everything that went into it.
        let receipt = self.waiters.register(call.number, request_id)?;
        call.requests.send(request).await.ok()?;
        Some(receipt)
    }

    /// Returns the open call to the leader, or opens one.
    fn call(&self, leader: u64, peer: impl FnOnce() -> Option<Peer>) -> Option<Call> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let is_usable = |call: &&Call| {
            call.leader == leader && self.waiters.is_open(call.number) && !call.requests.is_closed()
        };
        let open = calls.current.as_ref().filter(is_usable);
        if let Some(call) = open {
            return Some(call.clone());
        }
        let peer = peer()?;
        calls.opened += 1;
        let number = calls.opened;
        let (requests, receiver) = mpsc::channel(QUEUE_MAX);
        self.waiters.opened(number);
        let (waiters, stop) = (Arc::clone(&self.waiters), self.stop.clone());
        self.tasks.spawn(async move {
            let carried = stop.run_until_cancelled(carry(peer, receiver, &waiters)).await;
            waiters.ended(number, carried.unwrap_or(Reason::Unknown));
        });
        let call = Call { leader, number, requests };
        calls.current = Some(call.clone());
        Some(call)
    }
}

/// Carries one call to its end; returns what that means for proposals that have no answer yet.
async fn carry(mut peer: Peer, requests: mpsc::Receiver<wire::ProposeRequest>, waiters: &Waiters) -> Reason {
    let mut refusals = match peer.propose(ReceiverStream::new(requests)).await {
        Ok(refusals) => refusals,
        Err(status) if never_sent(&status) => return Reason::NotLeader,
        Err(_) => return Reason::Unknown,
    };
    while let Ok(Some(refused)) = refusals.message().await {
        waiters.refuse(refused.request_id, refused.reason());
    }
    Reason::Unknown
}

/// The leader's end of a call: proposes everything that comes, says what was not taken.
pub(crate) fn serve(
    node: Arc<Node>,
    requests: Streaming<wire::ProposeRequest>,
) -> impl Stream<Item = Result<wire::ProposeRefused, Status>> + Send + 'static {
    let serving = Serving { node, requests, proposing: FuturesUnordered::new(), is_open: true };
    stream::unfold(serving, |mut serving| async move {
        let refused = serving.next().await?;
        Some((Ok(refused), serving))
    })
}

struct Serving {
    node: Arc<Node>,
    requests: Streaming<wire::ProposeRequest>,
    proposing: FuturesUnordered<BoxFuture<'static, Option<wire::ProposeRefused>>>,
    is_open: bool,
}

impl Serving {
    async fn next(&mut self) -> Option<wire::ProposeRefused> {
        loop {
            let takes_more = self.is_open && self.proposing.len() < PROPOSING_MAX;
            tokio::select! {
                biased;
                Some(refused) = self.proposing.next(), if !self.proposing.is_empty() => {
                    if refused.is_some() {
                        return refused;
                    }
                }
                request = self.requests.message(), if takes_more => self.take(request),
                else => return None,
            }
        }
    }

    fn take(&mut self, request: Result<Option<wire::ProposeRequest>, Status>) {
        match request {
            Ok(Some(request)) => self.proposing.push(propose(Arc::clone(&self.node), request).boxed()),
            // What was taken is still worked on.
            Ok(None) | Err(_) => self.is_open = false,
        }
    }
}

async fn propose(node: Arc<Node>, request: wire::ProposeRequest) -> Option<wire::ProposeRefused> {
    let proposal = convert::proposal(request.proposal?);
    let request_id = proposal.request_id;
    let reason = match node.propose_as_leader(proposal, request.term).await {
        Forwarded::Committed(_) => return None,
        Forwarded::NotLeader => Reason::NotLeader,
        Forwarded::Unknown => Reason::Unknown,
    };
    Some(wire::ProposeRefused { request_id, reason: reason.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::MemoryEngine;

    struct Nobody;

    impl Observer for Nobody {
        fn applied(&self, _entry: AppliedEntry) {}
        fn replaced(&self, _store: &Store) {}
    }

    #[test]
    fn end_of_a_call_reaches_everyone_who_waits_for_it_and_nobody_waits_later() {
        let waiters = Arc::new(Waiters::new(1, Box::new(Nobody)));
        waiters.opened(7);
        waiters.opened(8);
        let mut first = waiters.register(7, 1).unwrap();
        let mut of_another = waiters.register(8, 2).unwrap();
        waiters.ended(7, Reason::Unknown);
        assert_eq!(first.refused.try_recv(), Ok(Reason::Unknown));
        assert!(of_another.refused.try_recv().is_err());
        assert!(waiters.register(7, 3).is_none(), "what ends later than its call would never be told");
        drop((first, of_another));
        assert_eq!(waiters.count(), 0);
    }

    #[test]
    fn who_waits_while_the_state_is_replaced_is_told_that_the_entry_may_be_in_it() {
        let waiters = Arc::new(Waiters::new(1, Box::new(Nobody)));
        waiters.opened(7);
        let mut waiting = waiters.register(7, 1).unwrap();
        waiters.replaced(&Store::open(Arc::new(MemoryEngine::new())).unwrap());
        assert_eq!(waiting.refused.try_recv(), Ok(Reason::Unknown));
        let mut later = waiters.register(7, 2).unwrap();
        assert!(later.refused.try_recv().is_err(), "the call goes on");
        assert!(waiting.applied.try_recv() == Err(oneshot::error::TryRecvError::Empty), "it may come yet");
    }
}
