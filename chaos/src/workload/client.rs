//! A client that draws operations, does them one at a time, and records each before it is sent and after it has returned.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::register::{Action, Generator, Planned};
use crate::etcd::{Failure, MemberClient};
use crate::history::{Answer, EventKind, Function, Note, Process, Writer};

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

/// One client. It is pinned when it has one target; with several it goes round.
pub struct Worker {
    /// Its first process number. A process whose operation ended in `info` is retired, and the next number is
    /// `process_step` further on.
    pub process: u32,
    pub process_step: u32,
    pub targets: Vec<Target>,
    pub history: Arc<Writer>,
    pub progress: Arc<Progress>,
    /// Mod revision of each key as this client has seen it last.
    pub seen: BTreeMap<String, i64>,
}

impl Worker {
    /// Does operations at a steady pace until `stop`.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub async fn run(
        mut self,
        generator: Arc<Mutex<Generator>>,
        period: Duration,
        stop: CancellationToken,
    ) -> std::io::Result<()> {
        let mut ticks = tokio::time::interval(period);
        // An operation that took long is not made up for: the rate is a ceiling.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            let planned = generator.lock().unwrap_or_else(PoisonError::into_inner).next_operation();
            self.operate(planned).await?;
        }
    }

    /// Reads keys once each.
    ///
    /// # Errors
    /// When the history cannot be written.
    pub async fn read_all(mut self, keys: impl Iterator<Item = String>) -> std::io::Result<()> {
        for key in keys {
            self.operate(Planned { key, action: Action::Read }).await?;
        }
        Ok(())
    }

    async fn operate(&mut self, planned: Planned) -> std::io::Result<()> {
        let Some(target) = self.targets.first().cloned() else { return Ok(()) };
        self.targets.rotate_left(1);
        let Planned { key, action } = planned;
        let expected = self.seen.get(&key).copied().unwrap_or(0);
        let (f, arguments) = invocation(&action, expected);
        let note = |kind, value| Note {
            kind,
            process: Process::Client(self.process),
            f,
            key: Some(key.clone()),
            value,
            node: Some(target.name.clone()),
            rev: None,
            error: None,
        };
        self.history.record(note(EventKind::Invoke, arguments))?;
        let outcome = perform(&target.client, &key, &action, expected).await;
        let note = match &outcome {
            Ok((answer, revision)) => {
                let value = serde_json::to_value(answer)?;
                Note { rev: Some(*revision), ..note(EventKind::Ok, value) }
            }
            Err(Failure::NotApplied(error)) => {
                Note { error: Some(error.clone()), ..note(EventKind::Fail, Value::Null) }
            }
            Err(Failure::Unknown(error)) => {
                Note { error: Some(error.clone()), ..note(EventKind::Info, Value::Null) }
            }
        };
        self.history.record(note)?;
        self.learn(&key, &outcome);
        Ok(())
    }

    fn learn(&mut self, key: &str, outcome: &Result<(Answer, i64), Failure>) {
        let counter = match outcome {
            Ok((answer, revision)) => {
                let seen = match answer {
                    Answer::Read(state) | Answer::NotSwapped(state) => {
                        state.as_ref().map_or(0, |state| state.mod_revision)
                    }
                    Answer::Written | Answer::Swapped => *revision,
                };
                self.seen.insert(key.to_owned(), seen);
                &self.progress.ok
            }
            Err(Failure::NotApplied(_)) => &self.progress.failed,
            Err(Failure::Unknown(_)) => {
                self.process = self.process.saturating_add(self.process_step);
                &self.progress.unknown
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn invocation(action: &Action, expected: i64) -> (Function, Value) {
    match action {
        Action::Read => (Function::Read, Value::Null),
        Action::Write { value } => (Function::Write, json!({ "value": value })),
        Action::Cas { value } => (Function::Cas, json!({ "value": value, "expected": expected })),
    }
}

async fn perform(
    client: &MemberClient,
    key: &str,
    action: &Action,
    expected: i64,
) -> Result<(Answer, i64), Failure> {
    match action {
        Action::Read => client.read(key).await,
        Action::Write { value } => client.write(key, value).await,
        Action::Cas { value } => client.cas(key, expected, value).await,
    }
}
