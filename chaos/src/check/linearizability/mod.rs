//! Linearizability by search: a second opinion that believes nothing the store says of its revisions.
//!
//! The search is Wing and Gong's with Lowe's cache (P. Horn and D. Kroening, arXiv 1504.00204): take any operation that may come
//! next in real time, step a model, go on; at a dead end take the last one back. A pair of (operations taken, state) that was seen
//! before is not tried again. Keys are searched apart, because a history is linearizable if and only if each key's is.
//!
//! An operation of unknown fate may take effect at any time after its invocation, or never. The problem is NP-complete, so the
//! search has limits, in steps and bytes rather than seconds: the verdict is the same on every machine. Beyond them it is
//! "unknown", never "linearizable". Transactions over several keys are the business of the list-append checker.

mod search;

mod horizon;
mod operation_set;
mod timeline;

mod model;
mod register;
mod set;
mod text;

mod keys;

pub use keys::{Report, check};
pub use model::{Model, Timed};
pub use register::{Expected, Register, RegisterAnswer, RegisterCall};
pub use search::{Culprit, Limits, Outcome, Unknown, search};
pub use set::{Set, SetAnswer, SetCall};
pub use text::{Text, TextAnswer, TextCall};

#[cfg(test)]
mod tests;
