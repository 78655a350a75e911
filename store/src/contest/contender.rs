//! One call that wants a name: enter, wait, answer; and clean up when there is nobody left to answer.
//!
//! It runs in a task of its own, because what it wrote has to be removed after its caller went away.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::oneshot;

use super::ContestError;
use super::session::Session;
use super::turn::{Entered, Entry, Place, Turn};
use crate::kv::{Consistency, Kv, KvError, ProgressMode, WatchItem, WatchQuery};
use crate::mvcc::{EventKind, KeyRange, LeaseId, Revision};

/// Entering is repeated this often when its outcome is unknown, so that an entry nobody knows of is rare.
const ENTER_ATTEMPTS: u32 = 3;
/// Looks at the queue and cleanups that fail are repeated this often. Each waits for a leader by itself, for longer than an election.
const ATTEMPTS: u32 = 3;
/// Between two attempts.
const RETRY: Duration = Duration::from_millis(500);

/// What a caller asks for.
#[derive(Clone, Debug)]
pub(crate) struct Application {
    pub(crate) name: Bytes,
    /// [`LeaseId::NONE`] makes a session for the call.
    pub(crate) lease: LeaseId,
    /// What the entry says; `None` when that does not matter.
    pub(crate) value: Option<Bytes>,
}

/// A name that was won.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Won {
    pub(crate) place: Place,
    /// Where the store stood when the entry was written.
    pub(crate) entered: Revision,
    /// Where it stood when the name was seen to be ours.
    pub(crate) won: Revision,
}

pub(super) type Answer = oneshot::Sender<Result<Won, ContestError>>;

pub(super) struct Contender {
    pub(super) kv: Arc<dyn Kv>,
    pub(super) application: Application,
}

impl Contender {
    /// Runs the call to its end. When it fails or its caller is gone, its key is gone too before this returns, as far as the
    /// store can be reached.
    pub(super) async fn run(self, mut caller: Answer) {
        let session = match Session::open(&*self.kv, self.application.lease).await {
            Ok(session) => session,
            Err(error) => return answer(caller, Err(error.into())),
        };
        let Application { name, value, .. } = &self.application;
        let entry = Entry::new(name, session.lease, value.clone());
        let entered = match self.enter(&entry).await {
            Ok(entered) => entered,
            Err(error) => {
                self.give_up(&session, None).await;
                return answer(caller, Err(error));
            }
        };
        let outcome = tokio::select! {
            outcome = self.win(&entered, &entry) => outcome,
            expired = session.keep(&*self.kv) => Err(expired),
            () = caller.closed() => return self.give_up(&session, Some(&entered.place)).await,
        };
        match &outcome {
            // This member has ended and can remove nothing. On another one, the same lease finds its place again.
            Ok(_) | Err(ContestError::Kv(KvError::Stopped)) => {}
            // Removed before the caller hears of it, who may enter again at once.
            Err(_) => self.give_up(&session, Some(&entered.place)).await,
        }
        if let Err(Ok(unheard)) = caller.send(outcome) {
            self.give_up(&session, Some(&unheard.place)).await;
        }
    }

    async fn enter(&self, entry: &Entry) -> Result<Entered, ContestError> {
        let mut attempts = 1;
        loop {
            match self.kv.txn(entry.enter()).await {
                Ok(answer) => return entry.entered(&answer).ok_or(ContestError::Kv(KvError::Corrupt)),
                Err(KvError::OutcomeUnknown) if attempts < ENTER_ATTEMPTS => attempts += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn win(&self, entered: &Entered, entry: &Entry) -> Result<Won, ContestError> {
        let Entered { place, revision, is_first, has_other_value } = entered.clone();
        if has_other_value {
            let value = entry.value.clone().unwrap_or_default();
            if !self.kv.txn(place.proclaim(value)).await?.succeeded {
                return Err(ContestError::NotLeader);
            }
        }
        let won = if is_first { revision } else { self.wait(&place).await? };
        Ok(Won { place, entered: revision, won })
    }

    /// Waits until nobody is before us. An election of the store's leader meanwhile only makes it longer.
    async fn wait(&self, place: &Place) -> Result<Revision, ContestError> {
        let mut failures = 0;
        loop {
            match self.kv.range(place.look(), Consistency::Linearizable).await {
                Ok(found) => match place.turn(&found) {
                    Turn::Ours(revision) => return Ok(revision),
                    Turn::After { key, seen } => {
                        failures = 0;
                        self.wait_for_deletion(key, seen).await?;
                    }
                    Turn::Over => return Err(ContestError::SessionExpired),
                },
                Err(error) if is_passing(&error) && failures < ATTEMPTS => {
                    failures += 1;
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns when `key` was deleted after `seen`, or when that has been forgotten and must be looked at again.
    async fn wait_for_deletion(&self, key: Bytes, seen: Revision) -> Result<(), KvError> {
        let query = WatchQuery {
            start: Some(seen.next()),
            progress: ProgressMode::OnRequest,
            ..WatchQuery::new(KeyRange::single(key))
        };
        let mut watcher = match self.kv.watch(query).await {
            Ok(watcher) => watcher,
            Err(KvError::Compacted { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        while let Some(item) = watcher.next().await {
            match item {
                Ok(WatchItem::Events { events, .. }) => {
                    if events.iter().any(|event| event.kind == EventKind::Delete) {
                        return Ok(());
                    }
                }
                Ok(WatchItem::Progress(_)) => {}
                Err(KvError::Compacted { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Err(KvError::Stopped)
    }

    /// Removes what was written, as far as that can be done; the lease ends what stays behind.
    async fn give_up(&self, session: &Session, place: Option<&Place>) {
        for _ in 0..ATTEMPTS {
            match self.remove(session, place).await {
                Err(error) if is_passing(&error) => tokio::time::sleep(RETRY).await,
                Ok(()) | Err(_) => return,
            }
        }
        tracing::warn!(
            lease = session.lease.0,
            "an entry for a name could not be removed; it ends with its lease"
        );
    }

    async fn remove(&self, session: &Session, place: Option<&Place>) -> Result<(), KvError> {
        match place {
            // With the lease goes what hangs on it.
            _ if session.is_ours => self.kv.lease_revoke(session.lease).await,
            Some(place) => self.kv.txn(place.leave()).await.map(drop),
            None => Ok(()),
        }
    }
}

fn answer(caller: Answer, outcome: Result<Won, ContestError>) {
    // A caller that is gone needs no answer.
    let _unheard = caller.send(outcome);
}

/// Whether the store is likely to do later what it did not do now.
fn is_passing(error: &KvError) -> bool {
    matches!(error, KvError::NoLeader | KvError::OutcomeUnknown | KvError::TooManyRequests)
}
