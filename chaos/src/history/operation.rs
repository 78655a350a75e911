//! Operations of the register workload: an invocation paired with its completion.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::exchange::is_zero;
use super::paired::paired;
use super::{Event, EventKind, Function, Process};

/// What a client asked of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Read,
    /// Values are unique in a run, so a value read names the write that made it.
    Write {
        value: String,
    },
    /// Writes if the key's mod revision is the expected one (0 = absent).
    Cas {
        expected: i64,
        value: String,
    },
}

/// The state of a key as an answer or the log shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyState {
    pub value: String,
    pub version: i64,
    pub create_revision: i64,
    pub mod_revision: i64,
    /// 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lease: i64,
}

/// What an answer carried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// State of the key, `None` when absent.
    Read(Option<KeyState>),
    Written,
    Swapped,
    /// The compare did not hold; the state that the same transaction read.
    NotSwapped(Option<KeyState>),
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok {
        answer: Answer,
        revision: i64,
        returned_at: u64,
    },
    Fail,
    /// Also an operation without a completion.
    Unknown,
}

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Index of the invocation.
    pub index: u64,
    pub process: Process,
    pub node: String,
    pub key: String,
    pub call: Call,
    pub invoked_at: u64,
    pub outcome: Outcome,
}

impl Operation {
    /// Whether it may have changed the store.
    pub fn is_write(&self) -> bool {
        match (&self.call, &self.outcome) {
            (Call::Read, _) | (_, Outcome::Fail) => false,
            (Call::Write { .. } | Call::Cas { .. }, Outcome::Ok { answer, .. }) => {
                matches!(answer, Answer::Written | Answer::Swapped)
            }
            (Call::Write { .. } | Call::Cas { .. }, Outcome::Unknown) => true,
        }
    }

    /// The value it writes, if it writes.
    pub fn written_value(&self) -> Option<&str> {
        match &self.call {
            Call::Read => None,
            Call::Write { value } | Call::Cas { value, .. } => Some(value),
        }
    }
}

/// Pairs invocations of the register workload with completions. A process has at most one operation open at a time.
///
/// # Errors
/// A sentence saying which event breaks the format.
pub fn pair(events: &[Event]) -> Result<Vec<Operation>, String> {
    let of_registers = |event: &&Event| {
        event.process != Process::NEMESIS
            && matches!(event.f, Function::Read | Function::Write | Function::Cas)
    };
    let mut operations = Vec::new();
    for (asked, ended) in paired(events.iter().filter(of_registers))? {
        let outcome = ended.map_or(Ok(Outcome::Unknown), outcome)?;
        operations.push(Operation { outcome, ..invocation(asked)? });
    }
    Ok(operations)
}

fn invocation(event: &Event) -> Result<Operation, String> {
    let broken = |what| event.broken(what);
    let text = |name: &str| event.value.get(name).and_then(Value::as_str).map(str::to_owned);
    let value = || text("value").ok_or_else(|| broken("a write names no value"));
    let call = if event.f == Function::Read {
        Call::Read
    } else if event.f == Function::Write {
        Call::Write { value: value()? }
    } else {
        let expected = event.value.get("expected").and_then(Value::as_i64);
        Call::Cas { value: value()?, expected: expected.ok_or_else(|| broken("a cas expects nothing"))? }
    };
    Ok(Operation {
        index: event.index,
        process: event.process,
        node: event.node.clone().unwrap_or_default(),
        key: event.key.clone().ok_or_else(|| broken("no key"))?,
        call,
        invoked_at: event.time,
        outcome: Outcome::Unknown,
    })
}

fn outcome(event: &Event) -> Result<Outcome, String> {
    match event.kind {
        EventKind::Fail => Ok(Outcome::Fail),
        EventKind::Info | EventKind::Invoke => Ok(Outcome::Unknown),
        EventKind::Ok => {
            let answer = event.carried("answer")?;
            Ok(Outcome::Ok { answer, revision: event.revision()?, returned_at: event.time })
        }
    }
}
