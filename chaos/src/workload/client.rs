//! A client that does one operation at a time, and records each before it is sent and after it has returned.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::etcd::{Failure, MemberClient};
use crate::history::{
    EventKind, Function, LeaseAnswer, LockAnswer, Note, Process, Request, Response, Writer,
};
use crate::kubernetes::Server;

/// How far processes of compound operations are from those of their requests.
const COMPOUND_PROCESSES: u32 = 1_000_000_000;

/// One member as clients see it.
#[derive(Clone)]
pub struct Target {
    pub name: String,
    pub client: MemberClient,
}

/// How far all clients of a run are.
#[derive(Default)]
pub struct Progress {
    pub ok: AtomicU64,
    pub failed: AtomicU64,
    pub unknown: AtomicU64,
}

/// What is the same for all clients of a run.
#[derive(Clone)]
pub struct Session {
    pub history: Arc<Writer>,
    pub progress: Arc<Progress>,
    /// A process whose operation ended in `info` is retired; the next number is this much further on.
    pub process_step: u32,
    /// Time between two operations of one client.
    pub period: Duration,
    /// Where clients put files.
    pub snapshots: PathBuf,
    /// Where real containers say that they start.
    pub starts: PathBuf,
    /// Ends the turns of all clients.
    pub stop: CancellationToken,
}

/// One client. It is pinned when it has one target; with several it goes round.
pub struct Client {
    session: Session,
    process: u32,
    targets: Vec<Target>,
    /// The API of every member, where members are whole servers.
    servers: Vec<Arc<Server>>,
    ticks: Interval,
}

/// What a client is about to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub f: Function,
    pub key: Option<String>,
    pub value: Value,
}

impl Client {
    /// Returns a client with its first process number.
    #[must_use]
    pub fn new(session: Session, process: u32, targets: Vec<Target>) -> Self {
        let mut ticks = tokio::time::interval(session.period);
        // An operation that took long is not made up for: the rate is a ceiling.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { session, process, targets, servers: Vec::new(), ticks }
    }

    /// Lets the client use the API of members, each over connections of its own.
    #[must_use]
    pub fn with_servers(self, servers: &[Server]) -> Self {
        Self { servers: servers.iter().cloned().map(Arc::new).collect(), ..self }
    }

    /// Waits for the client's next turn; `false` when the run is over.
    pub async fn turn(&mut self) -> bool {
        tokio::select! {
            biased;
            () = self.session.stop.cancelled() => false,
            _ = self.ticks.tick() => true,
        }
    }

    /// Does one operation and records it; returns what came back.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub async fn operate<A, F>(
        &mut self,
        asked: Asked,
        call: impl FnOnce(MemberClient) -> F,
    ) -> std::io::Result<Result<(A, i64), Failure>>
    where
        A: Serialize,
        F: Future<Output = Result<(A, i64), Failure>>,
    {
        let Some(target) = self.take_member() else {
            return Err(std::io::Error::other("a client without a member to ask"));
        };
        let calling = call(target.client.clone());
        let calling = async { calling.await.map(|(answer, revision)| (answer, Some(revision))) };
        let outcome = self.observe(asked, target.name, calling).await?;
        Ok(outcome.map(|(answer, revision)| (answer, revision.unwrap_or(0))))
    }

    /// Records a call to a member, makes it, and records what came back; not every answer has a revision.
    pub(super) async fn observe<A: Serialize>(
        &mut self,
        asked: Asked,
        node: String,
        calling: impl Future<Output = Result<(A, Option<i64>), Failure>>,
    ) -> std::io::Result<Result<(A, Option<i64>), Failure>> {
        let Asked { f, key, value } = asked;
        let note = |kind, value| Note {
            kind,
            process: Process::Client(self.process),
            f,
            key: key.clone(),
            value,
            node: Some(node.clone()),
            rev: None,
            error: None,
        };
        self.session.history.record(note(EventKind::Invoke, value))?;
        let outcome = calling.await;
        let note = match &outcome {
            Ok((answer, revision)) => {
                Note { rev: *revision, ..note(EventKind::Ok, serde_json::to_value(answer)?) }
            }
            Err(Failure::NotApplied(error)) => {
                Note { error: Some(error.clone()), ..note(EventKind::Fail, Value::Null) }
            }
            Err(Failure::Unknown(error)) => {
                Note { error: Some(error.clone()), ..note(EventKind::Info, Value::Null) }
            }
        };
        self.session.history.record(note)?;
        let progress = &self.session.progress;
        let counter = match &outcome {
            Ok(_) => &progress.ok,
            Err(Failure::NotApplied(_)) => &progress.failed,
            Err(Failure::Unknown(_)) => {
                self.process = self.process.saturating_add(self.session.process_step);
                &progress.unknown
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(outcome)
    }

    /// Sends a request to the key-value service and records it; returns what came back.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub async fn exchange(&mut self, request: &Request) -> std::io::Result<Result<(Response, i64), Failure>> {
        let asked = Asked { f: Function::Kv, key: None, value: serde_json::to_value(request)? };
        self.operate(asked, async |member| member.perform(request).await).await
    }

    /// Asks for a lease of so many seconds and records it.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub async fn lease_grant(&mut self, ttl: i64) -> std::io::Result<Result<(LeaseAnswer, i64), Failure>> {
        let asked = Asked { f: Function::LeaseGrant, key: None, value: json!({ "ttl": ttl }) };
        self.operate(asked, async |member| member.lease_grant(ttl).await).await
    }

    /// Renews a lease once and records it.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub async fn lease_keep_alive(
        &mut self,
        id: i64,
    ) -> std::io::Result<Result<(LeaseAnswer, i64), Failure>> {
        let asked = Asked { f: Function::KeepAlive, key: None, value: json!({ "id": id }) };
        self.operate(asked, async |member| member.lease_keep_alive(id).await).await
    }

    /// Ends a lease and records it.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub async fn lease_revoke(&mut self, id: i64) -> std::io::Result<Result<(LeaseAnswer, i64), Failure>> {
        let asked = Asked { f: Function::LeaseRevoke, key: None, value: json!({ "id": id }) };
        self.operate(asked, async |member| member.lease_revoke(id).await).await
    }

    /// Asks how much time a lease has left and records it.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub async fn lease_time_to_live(
        &mut self,
        id: i64,
    ) -> std::io::Result<Result<(LeaseAnswer, i64), Failure>> {
        let asked = Asked { f: Function::TimeToLive, key: None, value: json!({ "id": id }) };
        self.operate(asked, async |member| member.lease_time_to_live(id).await).await
    }

    /// Waits for a lock of the lock service's, takes it for a lease, and records it.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub async fn lock(
        &mut self,
        name: &str,
        lease: i64,
    ) -> std::io::Result<Result<(LockAnswer, i64), Failure>> {
        let (key, value) = (Some(name.to_owned()), json!({ "lease": lease }));
        let asked = Asked { f: Function::Lock, key, value };
        self.operate(asked, async |member| member.lock(name, lease).await).await
    }

    /// Gives such a lock back and records it.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub async fn unlock(&mut self, key: &str) -> std::io::Result<Result<((), i64), Failure>> {
        let asked = Asked { f: Function::Unlock, key: Some(key.to_owned()), value: Value::Null };
        self.operate(asked, async |member| member.unlock(key).await).await
    }

    /// Has history forgotten below a revision and records it.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub async fn compact(&mut self, revision: i64) -> std::io::Result<Result<((), i64), Failure>> {
        let asked = Asked { f: Function::Compact, key: None, value: json!({ "revision": revision }) };
        self.operate(asked, async |member| Ok(((), member.compact(revision).await?))).await
    }

    /// Saves a member's state as a file and records it.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub async fn save_snapshot(&mut self, file: &str) -> std::io::Result<()> {
        let asked = Asked { f: Function::Snapshot, key: Some(file.to_owned()), value: Value::Null };
        tokio::fs::create_dir_all(&self.session.snapshots).await?;
        let path = self.session.snapshots.join(file);
        // The answer has no header, and so no revision.
        let _ = self.operate(asked, async |member| Ok((member.save_snapshot(&path).await?, 0))).await?;
        Ok(())
    }

    /// Returns the folder in which real containers say that they start.
    pub(super) fn starts(&self) -> PathBuf {
        self.session.starts.clone()
    }

    /// Returns the client's number among those of the run.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.process % self.session.process_step.max(1)
    }

    /// Returns the member whose turn it is; the next call goes to the next one.
    pub fn take_member(&mut self) -> Option<Target> {
        let target = self.targets.first().cloned()?;
        self.targets.rotate_left(1);
        Some(target)
    }

    /// Returns the API of the member whose turn it is; the next call goes to the next one.
    pub(super) fn take_server(&mut self) -> std::io::Result<Arc<Server>> {
        let target = self.take_member();
        let server = target.and_then(|target| self.servers.iter().find(|server| server.name == target.name));
        server.cloned().ok_or_else(|| std::io::Error::other("a client without a server to ask"))
    }

    /// Whether the run is over.
    pub(super) fn is_over(&self) -> bool {
        self.session.stop.is_cancelled()
    }

    /// Waits until the run is over.
    pub async fn stopped(&self) {
        self.session.stop.cancelled().await;
    }

    /// Records what a watch asks for or shows; it has a process of its own, on the member that was taken last.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub fn note_watch(
        &self,
        process: u32,
        f: Function,
        kind: EventKind,
        value: &impl Serialize,
        rev: Option<i64>,
    ) -> std::io::Result<()> {
        let (value, node) =
            (serde_json::to_value(value)?, self.targets.last().map(|target| target.name.clone()));
        let process = Process::Client(process);
        self.session.history.record(Note { kind, process, f, key: None, value, node, rev, error: None })?;
        Ok(())
    }

    /// Records that a watch has ended, and why.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub fn note_watch_end(&self, process: u32, kind: EventKind, why: &str) -> std::io::Result<()> {
        self.note_watch_end_of(process, Function::Notice, kind, why)
    }

    /// Records the end of what is recorded under another name than a watch's responses.
    pub(super) fn note_watch_end_of(
        &self,
        process: u32,
        f: Function,
        kind: EventKind,
        why: &str,
    ) -> std::io::Result<()> {
        let (process, error) = (Process::Client(process), Some(why.to_owned()));
        let (key, value, node, rev) = (None, Value::Null, None, None);
        self.session.history.record(Note { kind, process, f, key, value, node, rev, error })?;
        Ok(())
    }

    /// Records the beginning of an operation that is made of several requests.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub fn begin(&self, asked: Asked) -> std::io::Result<Compound> {
        let Asked { f, key, value } = asked;
        let compound = Compound { process: self.process.saturating_add(COMPOUND_PROCESSES), f, key };
        self.note(&compound, EventKind::Invoke, value, None)?;
        Ok(compound)
    }

    /// Records its end.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub fn end(&self, compound: &Compound, end: Result<(Value, i64), Failure>) -> std::io::Result<()> {
        match end {
            Ok((value, revision)) => self.note(compound, EventKind::Ok, value, Some(revision)),
            Err(Failure::NotApplied(_)) => self.note(compound, EventKind::Fail, Value::Null, None),
            Err(Failure::Unknown(_)) => self.note(compound, EventKind::Info, Value::Null, None),
        }
    }

    fn note(
        &self,
        compound: &Compound,
        kind: EventKind,
        value: Value,
        rev: Option<i64>,
    ) -> std::io::Result<()> {
        let process = Process::Client(compound.process);
        let (f, key, node, error) = (compound.f, compound.key.clone(), None, None);
        self.session.history.record(Note { kind, process, f, key, value, node, rev, error })?;
        Ok(())
    }
}

/// An operation under way that is made of several requests. They are recorded each by itself, so it has a process of its own.
pub struct Compound {
    process: u32,
    f: Function,
    key: Option<String>,
}
