//! The history of a run: what clients asked and what came back, in one file of JSON lines with Jepsen's field names.
//!
//! One clock stamps all events: before the request is sent and after the answer has arrived. An operation whose fate is not
//! known ends in `info` and stays concurrent with everything after it; `fail` is only for what provably did not happen.

mod event;
mod operation;
mod reader;
mod writer;

pub use event::{Event, EventKind, Function, Process};
pub use operation::{Answer, Call, KeyState, Operation, Outcome, pair};
pub use reader::{ReadError, read};
pub use writer::{Note, Writer};
