//! Linearizable reads: one confirmation round answers everyone who asked before it began.
//!
//! A round that began before a request arrived never answers it (safety rule 12), so requests that come while a round
//! runs wait for the next one.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::node::Node;

/// Readers waiting for one round; more than the API server's own limit of requests in flight.
const WAITING_READERS_MAX: usize = 16_384;

type Waiter = oneshot::Sender<Option<u64>>;

/// Hands requests to the task that runs the rounds.
#[derive(Clone)]
pub(crate) struct ReadRounds {
    waiters: mpsc::Sender<Waiter>,
}

/// The receiving end, until the task runs.
pub(crate) struct Rounds {
    waiters: mpsc::Receiver<Waiter>,
}

/// Returns both ends.
pub(crate) fn channel() -> (ReadRounds, Rounds) {
    let (sender, receiver) = mpsc::channel(WAITING_READERS_MAX);
    (ReadRounds { waiters: sender }, Rounds { waiters: receiver })
}

impl ReadRounds {
    /// Returns an index that covers every write acknowledged before the call; `None` without a leader.
    pub(crate) async fn next(&self) -> Option<u64> {
        let (answer, wait) = oneshot::channel();
        self.waiters.send(answer).await.ok()?;
        wait.await.ok().flatten()
    }
}

impl Rounds {
    /// Runs rounds until the member stops.
    pub(crate) async fn run(mut self, node: Arc<Node>, stop: CancellationToken) {
        while let Some(waiting) = self.gather(&stop).await {
            let index = node.read_index_round().await;
            for waiter in waiting {
                // A reader that gave up needs no answer.
                let _ = waiter.send(index);
            }
        }
    }

    /// Waits for one reader and takes all others that are there.
    async fn gather(&mut self, stop: &CancellationToken) -> Option<Vec<Waiter>> {
        let first = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            first = self.waiters.recv() => first?,
        };
        let mut waiting = vec![first];
        while let Ok(waiter) = self.waiters.try_recv() {
            waiting.push(waiter);
        }
        Some(waiting)
    }
}
