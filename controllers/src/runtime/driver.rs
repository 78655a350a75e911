//! The only loop: key → observe → reconcile → execute → wait for own writes → requeue.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use client::{ApiObject, Change, Changes, ObjectKey};
use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::action::{Action, Plan};
use super::caches::Caches;
use super::executor::{Executor, Failed};
use super::work_queue::WorkQueue;
use crate::metrics::{ControllerLabels, Metrics, NameLabels};

/// Panics of one key after which it is set aside.
const PANIC_COUNT_MAX: u32 = 2;

/// What a reconcile may know beyond what it observed.
#[derive(Clone, Debug)]
pub struct Context {
    /// Wall-clock time, for timestamps and for times that stand in objects.
    pub now: Timestamp,
    /// What the server said when the last plan of this key failed; empty otherwise.
    pub last_failure: Option<String>,
}

/// One controller: reads caches into an observation, and decides purely on it.
pub trait Controller: Send + Sync + 'static {
    /// Everything that a decision about one key needs.
    type Observed: Send;

    /// Name in logs, metrics and Events.
    const NAME: &'static str;
    /// Keys worked on side by side.
    const CONCURRENCY: usize = 16;

    /// Reads the caches; no IO and no decisions.
    fn observe(&self, key: &ObjectKey) -> Self::Observed;

    /// Decides. Pure: the same arguments give the same plan.
    fn reconcile(observed: &Self::Observed, context: &Context) -> Plan;
}

/// Runs one controller during one tenure.
pub struct Driver<C: Controller> {
    controller: C,
    executor: Arc<Executor>,
    caches: Caches,
    metrics: Metrics,
    feeds: SelectAll<BoxStream<'static, Vec<ObjectKey>>>,
    keys: Keys,
}

/// What the driver remembers of its keys.
#[derive(Default)]
struct Keys {
    queue: WorkQueue<ObjectKey>,
    last_failures: HashMap<ObjectKey, String>,
    unresolved: HashMap<ObjectKey, Vec<Action>>,
    panic_counts: HashMap<ObjectKey, u32>,
    parked: HashSet<ObjectKey>,
}

impl Keys {
    /// Returns when there will be something to start by itself. Never while no further key can be worked on: one that is due would wake
    /// the loop again and again, and it could not take it; whoever ends first wakes it.
    fn wakes_at(&self, working: usize, working_max: usize) -> Option<Instant> {
        self.queue.next_due().filter(|_| working < working_max)
    }
}

/// How the work on a key ended.
struct Finished {
    key: ObjectKey,
    result: Result<(), Failed>,
    plan: PlanRest,
}

/// What remains of a plan after its actions.
struct PlanRest {
    requeue_after: Option<std::time::Duration>,
    /// The key was only resolving old actions and has not been decided on.
    undecided: bool,
}

enum Step {
    Keys(Vec<ObjectKey>),
    Finished(Finished),
    Due,
}

impl<C: Controller> Driver<C> {
    /// Returns a driver without feeds.
    #[must_use]
    pub fn new(controller: C, executor: Executor, caches: Caches, metrics: Metrics) -> Self {
        Self {
            controller,
            executor: Arc::new(executor),
            caches,
            metrics,
            feeds: SelectAll::new(),
            keys: Keys::default(),
        }
    }

    /// Turns changes of a kind into keys of this controller.
    #[must_use]
    pub fn feed<K: ApiObject>(
        mut self,
        changes: Changes<K>,
        keys: impl Fn(&Change<K>) -> Vec<ObjectKey> + Send + 'static,
    ) -> Self {
        let stream = futures::stream::unfold((changes, keys), |(mut changes, keys)| async move {
            let change = changes.recv().await;
            let found = keys(&change);
            Some((found, (changes, keys)))
        });
        self.feeds.push(stream.boxed());
        self
    }

    /// Takes keys from elsewhere.
    #[must_use]
    pub fn feed_keys(mut self, keys: mpsc::Receiver<Vec<ObjectKey>>) -> Self {
        let stream =
            futures::stream::unfold(keys, |mut keys| async move { Some((keys.recv().await?, keys)) });
        self.feeds.push(stream.boxed());
        self
    }

    /// Runs until `stop`. Writes that are under way then are still answered: a leader that was deposed learns from the
    /// refusal, and counts it.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut work: JoinSet<Finished> = JoinSet::new();
        while !stop.is_cancelled() {
            self.take_in();
            self.start_ready(&mut work, &stop);
            let Some(step) = stop.run_until_cancelled(self.next_step(&mut work)).await else { break };
            match step {
                Step::Keys(keys) => keys.into_iter().for_each(|key| self.keys.queue.add(key)),
                Step::Finished(finished) => self.finish(finished),
                Step::Due => {}
            }
        }
        while work.join_next().await.is_some() {}
    }

    /// Takes in all that feeds have at this moment. Unread changes of one object are joined at the place of the first, so what was read last may be
    /// newer than others that still wait: who decides between the two sees a state that never was, an owner that is being deleted before
    /// the dependents that came before that.
    fn take_in(&mut self) {
        while let Some(Some(keys)) = self.feeds.next().now_or_never() {
            keys.into_iter().for_each(|key| self.keys.queue.add(key));
        }
    }

    async fn next_step(&mut self, work: &mut JoinSet<Finished>) -> Step {
        let due = self.keys.wakes_at(work.len(), C::CONCURRENCY);
        tokio::select! {
            Some(keys) = self.feeds.next() => Step::Keys(keys),
            Some(finished) = join_next(work) => Step::Finished(finished),
            () = sleep_until(due) => Step::Due,
        }
    }

    fn start_ready(&mut self, work: &mut JoinSet<Finished>, stop: &CancellationToken) {
        while work.len() < C::CONCURRENCY {
            let Some(key) = self.keys.queue.take(now()) else { break };
            if self.keys.parked.contains(&key) {
                self.keys.queue.done(&key);
                continue;
            }
            self.start(key, work, stop);
        }
        let labels = NameLabels { name: C::NAME };
        let depth = i64::try_from(self.keys.queue.ready_count()).unwrap_or(i64::MAX);
        self.metrics.queue_depth.get_or_create(&labels).set(depth);
    }

    fn start(&mut self, key: ObjectKey, work: &mut JoinSet<Finished>, stop: &CancellationToken) {
        let edge =
            Edge { executor: Arc::clone(&self.executor), caches: self.caches.clone(), stop: stop.clone() };
        if let Some(actions) = self.keys.unresolved.remove(&key) {
            let plan = Plan { actions, ..Plan::default() };
            work.spawn(edge.execute(key, plan, true));
            return;
        }
        let context =
            Context { now: self.wall_clock(), last_failure: self.keys.last_failures.get(&key).cloned() };
        let decided = catch_unwind(AssertUnwindSafe(|| {
            let observed = self.controller.observe(&key);
            C::reconcile(&observed, &context)
        }));
        match decided {
            Ok(plan) => {
                debug!(controller = C::NAME, %key, actions = plan.actions.len(), "reconciled");
                work.spawn(edge.execute(key, plan, false));
            }
            Err(_) => self.panicked(key),
        }
    }

    /// Objects keep whole seconds; a finer time would make every comparison with a stored one fail.
    fn wall_clock(&self) -> Timestamp {
        let now = self.executor.client().outside().now();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }

    fn panicked(&mut self, key: ObjectKey) {
        self.metrics.reconcile(C::NAME, "panic");
        self.keys.queue.done(&key);
        let count = self.keys.panic_counts.entry(key.clone()).or_default();
        *count += 1;
        if *count < PANIC_COUNT_MAX {
            warn!(controller = C::NAME, %key, "reconcile panicked");
            self.keys.queue.retry(key, now());
            return;
        }
        error!(controller = C::NAME, %key, "reconcile panicked again; the key is parked");
        self.keys.parked.insert(key);
        self.metrics.parked.get_or_create(&ControllerLabels { controller: C::NAME }).inc();
    }

    fn finish(&mut self, finished: Finished) {
        let Finished { key, result, plan } = finished;
        let now = now();
        self.keys.queue.done(&key);
        match result {
            Ok(()) => {
                self.metrics.reconcile(C::NAME, "ok");
                self.keys.queue.succeeded(&key);
                self.keys.last_failures.remove(&key);
                if plan.undecided {
                    self.keys.queue.add(key);
                } else if let Some(delay) = plan.requeue_after {
                    self.keys.queue.add_at(key, now + delay);
                }
            }
            Err(Failed { error, unresolved }) => {
                let result = if error.is_conflict() { "conflict" } else { "error" };
                self.metrics.reconcile(C::NAME, result);
                debug!(controller = C::NAME, %key, %error, "plan failed");
                if !error.is_conflict() {
                    self.keys.last_failures.insert(key.clone(), error.to_string());
                }
                if !unresolved.is_empty() {
                    self.keys.unresolved.insert(key.clone(), unresolved);
                }
                self.keys.queue.retry(key, now);
            }
        }
    }
}

/// What the work on a key reaches beyond the driver.
struct Edge {
    executor: Arc<Executor>,
    caches: Caches,
    stop: CancellationToken,
}

impl Edge {
    /// Writes a plan and waits until its effects are in the caches. A failed plan may have written in part.
    async fn execute(self, key: ObjectKey, plan: Plan, undecided: bool) -> Finished {
        let Plan { actions, notes, requeue_after } = plan;
        let (own_writes, result) = self.executor.run(&actions).await;
        if result.is_ok() {
            self.executor.tell(&notes).await;
        }
        self.stop.run_until_cancelled(own_writes.seen(&self.caches)).await;
        Finished { key, result, plan: PlanRest { requeue_after, undecided } }
    }
}

/// Never completes while there is no work, so that `select!` waits for the other arms.
async fn join_next(work: &mut JoinSet<Finished>) -> Option<Finished> {
    match work.join_next().await {
        Some(Ok(finished)) => Some(finished),
        Some(Err(failure)) => {
            // Tasks only write and wait; one that dies leaves its key taken, which is reported and not retried.
            error!(%failure, "write task died");
            pending().await
        }
        None => pending().await,
    }
}

/// The runtime's clock, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => pending().fuse().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_due_wakes_nobody_while_it_cannot_be_taken() {
        let (mut keys, due) = (Keys::default(), Instant::now());
        keys.queue.add_at(ObjectKey::new("a", "b"), due);
        assert_eq!(keys.wakes_at(15, 16), Some(due));
        assert_eq!(keys.wakes_at(16, 16), None);
    }
}
