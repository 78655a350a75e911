//! The pure state machine of one pod: specification, observed runtime state, what was learned, and now → actions and status.
//!
//! ```text
//!           bound                     deleted, or every container ended for good
//!   ─────────────► Syncing ─────────────────────────────► Terminating ──► Terminated ──► Finished
//!                  sandbox → init containers → containers  kill            sandboxes      nothing
//!                  → restarts with back-off                containers      stopped        left, object may go
//! ```
//! A stage never goes back, and a name never has two live containers. Nothing here reads a clock, file, socket or the runtime:
//! the worker does, and it runs the actions. Reading order: [`observed`], [`memory`], [`mod@compute`], [`status`], then the parts.

pub mod backoff;
pub mod compute;
pub mod env;
pub mod memory;
pub mod observed;
pub mod probe_state;
pub mod qos;
pub mod spec;
pub mod status;

#[cfg(test)]
mod model_tests;

pub use compute::{Action, Decision, Stage, compute};
pub use memory::{Memory, Waiting};
pub use observed::Observed;
