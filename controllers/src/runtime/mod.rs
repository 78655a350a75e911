//! What every controller runs on: the level-based loop, and the only hand that writes.
//!
//! ```text
//! cache changes ─▶ work_queue ─▶ observe ─▶ reconcile (pure) ─▶ Plan ─▶ executor ─▶ own writes seen ─▶ done
//!                     ▲                                                   │
//!                     └────────────── requeue, retry with back-off ◀──────┘
//! ```
//!
//! Invariants: only [`executor`] writes; every write carries the fence of the present tenure; a key is not acted on
//! again before its own writes are in the cache, however long that takes; an action whose outcome is unknown is sent
//! again, with the same idempotency key, before anything else is decided for that key.

pub mod action;
pub mod caches;
pub mod driver;
pub mod executor;
pub mod own_writes;
pub mod work_queue;

pub use action::{Action, Note, NoteType, Plan, Verb};
pub use caches::Caches;
pub use driver::{Context, Controller, Driver};
pub use executor::{Executor, Failed};
pub use own_writes::OwnWrites;
pub use work_queue::WorkQueue;
