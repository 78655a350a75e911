//! The calls under way on this member.
//!
//! Calls of the same entry run one after the other: they are one acquisition, and a caller that gave up and asks again must not
//! meet the cleanup of its former call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::ContestError;
use super::contender::{Answer, Application, Contender, Won};
use crate::kv::{Kv, KvError};
use crate::mvcc::LeaseId;

/// Runs calls that want a name. Its clones share the calls, which end with the last of them.
#[derive(Clone)]
pub(crate) struct Contests {
    kv: Arc<dyn Kv>,
    calls: Arc<Mutex<Calls>>,
}

#[derive(Default)]
struct Calls {
    tasks: JoinSet<()>,
    /// By name and lease, while a call is under way.
    turns: HashMap<(Bytes, LeaseId), Weak<tokio::sync::Mutex<()>>>,
}

impl Contests {
    pub(crate) fn new(kv: Arc<dyn Kv>) -> Self {
        Self { kv, calls: Arc::default() }
    }

    /// Waits until the caller has the name. Dropping this gives the place in the queue up.
    pub(crate) async fn win(&self, application: Application) -> Result<Won, ContestError> {
        let (answer, won) = oneshot::channel();
        self.spawn(application, answer);
        won.await.unwrap_or(Err(ContestError::Kv(KvError::Stopped)))
    }

    fn spawn(&self, application: Application, mut answer: Answer) {
        let mut calls = self.lock();
        while calls.tasks.try_join_next().is_some() {}
        let turn = calls.turn(&application);
        let contender = Contender { kv: Arc::clone(&self.kv), application };
        calls.tasks.spawn(async move {
            let _turn = tokio::select! {
                biased;
                () = answer.closed() => return,
                turn = turn.lock_owned() => turn,
            };
            contender.run(answer).await;
        });
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    /// Returns what calls of this entry take turns with. A session that is made for its call meets no other.
    fn turn(&mut self, application: &Application) -> Arc<tokio::sync::Mutex<()>> {
        let fresh = Arc::<tokio::sync::Mutex<()>>::default();
        if application.lease == LeaseId::NONE {
            return fresh;
        }
        self.turns.retain(|_, turn| turn.strong_count() > 0);
        let key = (application.name.clone(), application.lease);
        if let Some(turn) = self.turns.get(&key).and_then(Weak::upgrade) {
            return turn;
        }
        self.turns.insert(key, Arc::downgrade(&fresh));
        fresh
    }
}
