//! One line of a history.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::FaultKind;

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
    /// Reads and appends of lists, all or nothing.
    Txn,
    /// Any request to the key-value service, whole.
    Kv,
    LeaseGrant,
    /// The renewal of a lease.
    KeepAlive,
    LeaseRevoke,
    TimeToLive,
    /// A lock of the lock service's is wanted; its name is the key.
    Lock,
    /// It is given back.
    Unlock,
    /// History below a revision is forgotten.
    Compact,
    /// A member's state is saved as a file, which is the key.
    Snapshot,
    /// What a cluster holds that was restored from a file.
    Restore,
    /// The creation of a watch.
    Watch,
    /// A response of a watch, or its end.
    Notice,
    /// Any request to an API server, whole.
    Api,
    /// What an informer lists, is shown by a watch, and why that ended.
    Inform,
    /// Waiting for controllers to reach what was asked for.
    Settle,
    /// A look of the harness at the containers that live and have started.
    Containers,
    /// All faults are over: which members serve again.
    Recover,
    /// The whole log as one member's watch shows it.
    Audit,
    #[serde(untagged)]
    Fault(FaultKind),
}
