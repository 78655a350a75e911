//! One line of a history.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One event: an invocation, its completion, or a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the history; breaks ties of `time`.
    pub index: u64,
    /// Nanoseconds since the run began, on the harness's monotonic clock.
    pub time: u64,
    #[serde(rename = "type")]
    pub kind: EventKind,
    pub process: Process,
    pub f: Function,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Arguments of an invocation, or what an answer carried; a fault's witness.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub value: Value,
    /// The member that was asked, or that a fault hit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The store's revision in the answer's header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rev: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What an event says about its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    Invoke,
    Ok,
    /// Provably did not happen.
    Fail,
    /// May have happened, or may yet.
    Info,
}

/// Who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Process {
    Client(u32),
    Nemesis(NemesisTag),
}

/// The one name that stands in the place of a client's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NemesisTag {
    #[serde(rename = "nemesis")]
    Nemesis,
}

impl Process {
    /// The process that injects faults.
    pub const NEMESIS: Self = Self::Nemesis(NemesisTag::Nemesis);
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Function {
    Read,
    Write,
    Cas,
    Kill,
    Restart,
    Partition,
    Heal,
    /// All faults are over: which members serve again.
    Recover,
    /// The whole log as one member's watch shows it.
    Audit,
}
