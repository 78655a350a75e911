//! The history of a run: what clients asked and what came back, in one file of JSON lines with Jepsen's field names.
//!
//! One clock stamps all events: before the request is sent and after the answer has arrived. An operation whose fate is not
//! known ends in `info` and stays concurrent with everything after it; `fail` is only for what provably did not happen.

mod api;
mod containers;
mod event;
mod exchange;
mod fault;
mod lease;
mod lock;
mod operation;
mod paired;
mod transaction;
mod watch;

mod reader;
mod writer;

pub use api::{
    ApiAnswer, ApiCall, ApiEnd, ApiExchange, Face, Informed, Listing, Lock, Named, Removal, Resource,
    Settled, ShownEvent, Tenancy, Written, api_exchanges, revision, settled,
};
pub use containers::{ContainerOf, ContainerProcess, Look, STARTS, Sight, Start, hundredths, looks};
pub use event::{Event, EventKind, Function, Process};
pub use exchange::{
    Compare, CompareTarget, Delete, Exchange, ExchangeEnd, Put, Range, Relation, Request, Response, Row, Txn,
    exchanges,
};
pub use fault::{Fault, FaultKind, Phase};
pub use lease::{LeaseAnswer, LeaseCall, LeaseEnd, lease_calls};
pub use lock::{LockAnswer, LockCall, LockEnd, UnlockCall, left_queues, lock_calls, unlock_calls};
pub use operation::{Answer, Call, KeyState, Operation, Outcome, pair};
pub use reader::{ReadError, read};
pub use transaction::{End, Step, Transaction, transactions};
pub use watch::{Notice, Noticed, Watch, WatchEvent, WatchSpec, watches};
pub use writer::{Note, Writer};

/// Version of the file, in its first line.
const FORMAT: u64 = 2;
