//! One request to the key-value service of a store and its answer, whole: any of them can be replayed.

use serde::{Deserialize, Serialize};

use super::paired::paired;
use super::{Answer, Call, Event, EventKind, Function, KeyState, Operation, Outcome, Process, pair};

/// A request. Puts and deletes inside a transaction take effect together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Range(Range),
    Put(Put),
    Delete(Delete),
    Txn(Txn),
}

/// Reads a key, or all keys from `key` to before `end`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Range {
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// As of this revision; 0 for the newest.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: i64,
    /// As the member has it, which may be old.
    #[serde(default, skip_serializing_if = "is_false")]
    pub serializable: bool,
}

/// Writes a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Put {
    pub key: String,
    /// Unique in a run among all values of the key, so that the log tells whether it happened.
    pub value: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lease: i64,
    /// Whether the answer shows what was there before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub prev_kv: bool,
}

/// Deletes a key, or all keys from `key` to before `end`; the answer shows what was there.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Delete {
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
}

/// Does one or the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Txn {
    #[serde(rename = "if")]
    pub compares: Vec<Compare>,
    pub then: Vec<Request>,
    #[serde(rename = "else")]
    pub otherwise: Vec<Request>,
}

/// A condition on one key, or on each key from `key` to before `end` that is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Compare {
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    pub target: CompareTarget,
    pub relation: Relation,
}

/// What of the key, and with what it is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompareTarget {
    Version(i64),
    CreateRevision(i64),
    ModRevision(i64),
    Value(String),
    Lease(i64),
}

/// How it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Relation {
    #[serde(rename = "=")]
    Equal,
    #[serde(rename = "!=")]
    NotEqual,
    #[serde(rename = "<")]
    Less,
    #[serde(rename = ">")]
    Greater,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    Range { rows: Vec<Row>, count: i64 },
    Put { prev: Option<Row> },
    Delete { deleted: i64, prev: Vec<Row> },
    Txn { succeeded: bool, responses: Vec<Response> },
}

/// A key and its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub key: String,
    #[serde(flatten)]
    pub state: KeyState,
}

/// How an exchange ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExchangeEnd {
    Ok {
        response: Response,
        revision: i64,
        returned_at: u64,
    },
    /// Provably did not happen; what the store said.
    Fail {
        error: String,
        returned_at: u64,
    },
    /// Also one without a completion.
    Unknown,
}

impl ExchangeEnd {
    /// Returns the answer, if there was one.
    pub fn response(&self) -> Option<&Response> {
        match self {
            Self::Ok { response, .. } => Some(response),
            Self::Fail { .. } | Self::Unknown => None,
        }
    }
}

/// One request of one client, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Index of the invocation.
    pub index: u64,
    pub process: Process,
    pub node: String,
    pub request: Request,
    pub invoked_at: u64,
    pub end: ExchangeEnd,
}

impl Request {
    /// All writes that it may do, on any branch.
    pub fn puts(&self) -> Vec<&Put> {
        match self {
            Self::Put(put) => vec![put],
            Self::Range(_) | Self::Delete(_) => Vec::new(),
            Self::Txn(txn) => txn.then.iter().chain(&txn.otherwise).flat_map(Self::puts).collect(),
        }
    }

    /// Whether it may delete anything, on any branch.
    pub fn may_delete(&self) -> bool {
        match self {
            Self::Delete(_) => true,
            Self::Range(_) | Self::Put(_) => false,
            Self::Txn(txn) => txn.then.iter().chain(&txn.otherwise).any(Self::may_delete),
        }
    }

    /// Whether it may delete a key, on any branch.
    pub fn deletes(&self, key: &str) -> bool {
        match self {
            Self::Delete(Delete { key: from, end: Some(end) }) => from.as_str() <= key && key < end.as_str(),
            Self::Delete(Delete { key: one, end: None }) => one == key,
            Self::Range(_) | Self::Put(_) => false,
            Self::Txn(txn) => txn.then.iter().chain(&txn.otherwise).any(|step| step.deletes(key)),
        }
    }

    /// Whether it can never change anything.
    pub fn is_read_only(&self) -> bool {
        match self {
            Self::Range(_) => true,
            Self::Put(_) | Self::Delete(_) => false,
            Self::Txn(txn) => txn.then.iter().chain(&txn.otherwise).all(Self::is_read_only),
        }
    }

    /// Whether an old answer is allowed: to a read that says so, and to a transaction of nothing but such reads. To etcd, one that does
    /// nothing at all is of this kind (`isTxnSerializable` in its v3_server.go).
    pub fn is_serializable(&self) -> bool {
        let is_old_read = |step: &Self| matches!(step, Self::Range(range) if range.serializable);
        match self {
            Self::Range(_) => is_old_read(self),
            Self::Put(_) | Self::Delete(_) => false,
            Self::Txn(txn) => txn.then.iter().chain(&txn.otherwise).all(is_old_read),
        }
    }
}

impl Response {
    /// Whether this answer says that something was changed.
    pub fn wrote(&self) -> bool {
        match self {
            Self::Range { .. } => false,
            Self::Put { .. } => true,
            Self::Delete { deleted, .. } => *deleted > 0,
            Self::Txn { responses, .. } => responses.iter().any(Self::wrote),
        }
    }

    /// Whether it could be an answer to the request.
    fn fits(&self, request: &Request) -> bool {
        match (self, request) {
            (Self::Range { .. }, Request::Range(_))
            | (Self::Put { .. }, Request::Put(_))
            | (Self::Delete { .. }, Request::Delete(_)) => true,
            (Self::Txn { succeeded, responses }, Request::Txn(txn)) => {
                let asked = if *succeeded { &txn.then } else { &txn.otherwise };
                responses.len() == asked.len()
                    && responses.iter().zip(asked).all(|(response, request)| response.fits(request))
            }
            (
                Self::Range { .. } | Self::Put { .. } | Self::Delete { .. } | Self::Txn { .. },
                Request::Range(_) | Request::Put(_) | Request::Delete(_) | Request::Txn(_),
            ) => false,
        }
    }
}

impl Exchange {
    /// Whether it changed the store, or may have.
    pub fn may_write(&self) -> bool {
        match &self.end {
            ExchangeEnd::Ok { response, .. } => response.wrote(),
            ExchangeEnd::Fail { .. } => false,
            ExchangeEnd::Unknown => !self.request.is_read_only(),
        }
    }
}

/// Returns every request to the key-value service, also those of the register workload, by index.
///
/// # Errors
/// A sentence saying which event breaks the format.
pub fn exchanges(events: &[Event]) -> Result<Vec<Exchange>, String> {
    let mut exchanges: Vec<Exchange> = pair(events)?.into_iter().map(Exchange::from).collect();
    for (asked, ended) in paired(events.iter().filter(|event| event.f == Function::Kv))? {
        let request = asked.carried("request")?;
        let end = ended.map_or(Ok(ExchangeEnd::Unknown), |ended| end(ended, &request))?;
        let (index, process, invoked_at) = (asked.index, asked.process, asked.time);
        let node = asked.node.clone().unwrap_or_default();
        exchanges.push(Exchange { index, process, node, request, invoked_at, end });
    }
    exchanges.sort_by_key(|exchange| exchange.index);
    Ok(exchanges)
}

fn end(event: &Event, request: &Request) -> Result<ExchangeEnd, String> {
    match event.kind {
        EventKind::Info | EventKind::Invoke => Ok(ExchangeEnd::Unknown),
        EventKind::Fail => {
            let error = event.error.clone().unwrap_or_default();
            Ok(ExchangeEnd::Fail { error, returned_at: event.time })
        }
        EventKind::Ok => {
            let response: Response = event.carried("answer")?;
            if !response.fits(request) {
                return Err(event.broken("the answer is not one to its request"));
            }
            Ok(ExchangeEnd::Ok { response, revision: event.revision()?, returned_at: event.time })
        }
    }
}

impl From<Operation> for Exchange {
    fn from(operation: Operation) -> Self {
        let Operation { index, process, node, key, call, invoked_at, outcome } = operation;
        let end = match outcome {
            Outcome::Ok { answer, revision, returned_at } => {
                ExchangeEnd::Ok { response: response(&key, answer), revision, returned_at }
            }
            // When a register operation failed is not kept: nothing is concluded from it.
            Outcome::Fail => ExchangeEnd::Fail { error: String::new(), returned_at: u64::MAX },
            Outcome::Unknown => ExchangeEnd::Unknown,
        };
        Self { index, process, node, request: request(key, call), invoked_at, end }
    }
}

fn request(key: String, call: Call) -> Request {
    match call {
        Call::Read => Request::Range(Range { key, ..Range::default() }),
        Call::Write { value } => Request::Put(Put { key, value, ..Put::default() }),
        Call::Cas { expected, value } => Request::Txn(Txn {
            compares: vec![Compare {
                key: key.clone(),
                end: None,
                target: CompareTarget::ModRevision(expected),
                relation: Relation::Equal,
            }],
            then: vec![Request::Put(Put { key: key.clone(), value, ..Put::default() })],
            otherwise: vec![Request::Range(Range { key, ..Range::default() })],
        }),
    }
}

fn response(key: &str, answer: Answer) -> Response {
    let range = |state: Option<KeyState>| {
        let rows: Vec<Row> = state.into_iter().map(|state| Row { key: key.to_owned(), state }).collect();
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        Response::Range { rows, count }
    };
    match answer {
        Answer::Read(state) => range(state),
        Answer::Written => Response::Put { prev: None },
        Answer::Swapped => Response::Txn { succeeded: true, responses: vec![Response::Put { prev: None }] },
        Answer::NotSwapped(state) => Response::Txn { succeeded: false, responses: vec![range(state)] },
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
pub(super) fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
pub(super) fn is_false(flag: &bool) -> bool {
    !flag
}
