//! Linearizable reads: one confirmation round answers everyone who asked before it began.
//!
//! A round that began before a request arrived never answers it (safety rule 12), so requests that come while a round
//! runs wait for the next one. Rounds run in a task of their own, which lives for as long as somebody waits: a reader that is
//! not polled for a while, because its caller waits for something else first, holds up nobody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

type Waiter = oneshot::Sender<Option<u64>>;

/// Runs rounds when somebody asks.
pub(crate) struct ReadRounds {
    queue: Arc<Mutex<Queue>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Bounded by the requests that the servers above take in at a time.
#[derive(Default)]
struct Queue {
    is_running: bool,
    waiting: Vec<Waiter>,
}

impl ReadRounds {
    pub(crate) fn new(tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self { queue: Arc::default(), tasks, stop }
    }

    /// Returns an index that covers every write acknowledged before the call; `None` without a leader. `round` is called for
    /// every round by whoever finds none running.
    pub(crate) async fn next<R>(&self, round: impl Fn() -> R + Send + 'static) -> Option<u64>
    where
        R: Future<Output = Option<u64>> + Send,
    {
        let (waiter, index) = oneshot::channel();
        let is_first = {
            let mut queue = lock(&self.queue);
            queue.waiting.push(waiter);
            !std::mem::replace(&mut queue.is_running, true)
        };
        if is_first {
            let running = Running { queue: Arc::clone(&self.queue), has_ended: false };
            let stop = self.stop.clone();
            self.tasks.spawn(async move { stop.run_until_cancelled(running.run(round)).await });
        }
        index.await.ok().flatten()
    }
}

/// The one task that runs rounds. When it ends, in whatever way, those who wait are told that there was no answer.
struct Running {
    queue: Arc<Mutex<Queue>>,
    /// It has said so itself, and another one may run by now.
    has_ended: bool,
}

impl Running {
    async fn run<R>(mut self, round: impl Fn() -> R)
    where
        R: Future<Output = Option<u64>>,
    {
        loop {
            // Requests that have arrived at the sockets meanwhile come along.
            tokio::task::yield_now().await;
            let waiting = {
                let mut queue = lock(&self.queue);
                queue.is_running = !queue.waiting.is_empty();
                std::mem::take(&mut queue.waiting)
            };
            if waiting.is_empty() {
                self.has_ended = true;
                return;
            }
            let index = round().await;
            for waiter in waiting {
                // A reader that gave up needs no answer.
                let _ = waiter.send(index);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let mut queue = lock(&self.queue);
        queue.is_running = false;
        queue.waiting.clear();
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::Poll;
    use std::time::Duration;

    use futures::poll;
    use tokio::sync::Semaphore;

    use super::*;

    /// Rounds that end when they are told to, and are numbered from 1.
    #[derive(Clone)]
    struct Harness {
        rounds: Arc<ReadRounds>,
        began: Arc<AtomicU64>,
        ends: Arc<Semaphore>,
        stop: CancellationToken,
    }

    impl Harness {
        fn new() -> Self {
            let stop = CancellationToken::new();
            let rounds = Arc::new(ReadRounds::new(TaskTracker::new(), stop.clone()));
            Self { rounds, began: Arc::default(), ends: Arc::new(Semaphore::new(0)), stop }
        }

        async fn read(&self) -> Option<u64> {
            let (began, ends) = (Arc::clone(&self.began), Arc::clone(&self.ends));
            let round = move || {
                let (began, ends) = (Arc::clone(&began), Arc::clone(&ends));
                async move {
                    let number = began.fetch_add(1, Ordering::SeqCst) + 1;
                    ends.acquire().await.unwrap().forget();
                    Some(number)
                }
            };
            self.rounds.next(round).await
        }

        async fn wait_began(&self, number: u64) {
            wait(|| self.began.load(Ordering::SeqCst) >= number).await;
        }
    }

    async fn wait(condition: impl Fn() -> bool) {
        for _ in 0..YIELDS_MAX {
            if condition() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("what the test waits for does not happen");
    }

    /// Far more than what is ready needs.
    const YIELDS_MAX: u32 = 1000;

    /// The clock stands still while anything can go on, so this only bounds a failure.
    async fn answer(reader: impl Future<Output = Option<u64>>) -> Option<u64> {
        tokio::time::timeout(Duration::from_secs(1), reader).await.expect("the reader is never answered")
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_during_a_round_is_answered_by_the_next() {
        let harness = Harness::new();
        let mut first = Box::pin(harness.read());
        assert_eq!(poll!(&mut first), Poll::Pending);
        harness.wait_began(1).await;
        let (mut second, mut third) = (Box::pin(harness.read()), Box::pin(harness.read()));
        assert_eq!((poll!(&mut second), poll!(&mut third)), (Poll::Pending, Poll::Pending));
        harness.ends.add_permits(1);
        assert_eq!(answer(first).await, Some(1));
        harness.wait_began(2).await;
        assert_eq!((poll!(&mut second), poll!(&mut third)), (Poll::Pending, Poll::Pending));
        harness.ends.add_permits(2);
        assert_eq!(tokio::join!(answer(second), answer(third)), (Some(2), Some(2)));
        // Once the task that ran the rounds has ended, a new one is needed.
        wait(|| harness.rounds.tasks.is_empty()).await;
        assert_eq!(answer(harness.read()).await, Some(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_leaves_or_is_not_polled_holds_up_nobody() {
        let harness = Harness::new();
        let mut left = Box::pin(harness.read());
        let mut idle = Box::pin(harness.read());
        assert_eq!((poll!(&mut left), poll!(&mut idle)), (Poll::Pending, Poll::Pending));
        drop(left);
        harness.wait_began(1).await;
        let reader = harness.clone();
        let late = tokio::spawn(async move { reader.read().await });
        harness.ends.add_permits(2);
        assert_eq!(answer(async { late.await.unwrap() }).await, Some(2));
        assert_eq!(answer(idle).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_stops_answers_nobody() {
        let harness = Harness::new();
        let mut reader = Box::pin(harness.read());
        assert_eq!(poll!(&mut reader), Poll::Pending);
        harness.wait_began(1).await;
        harness.stop.cancel();
        assert_eq!(answer(reader).await, None);
        assert_eq!(answer(harness.read()).await, None);
    }
}
