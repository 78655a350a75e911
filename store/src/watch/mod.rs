//! The watch hub: applied changes go in once, every subscriber gets its own, in order, each exactly once, without gaps.
//!
//! ```text
//! apply ─► Hub::publish ─► ring of recent revisions ─┬─► queue of a synced watcher ─► Watcher (a stream)
//!                                                    └─◄ a lagging watcher reads the ring, or rows when it is older
//! ```
//!
//! `core` is the bookkeeping, pure; `hub` puts it behind a lock; `watcher` is the stream. Nothing here ever makes the apply
//! path wait: a watcher whose bounded queue overflows loses the queue, not its place, and reads what it missed.
//!
//! Progress is taken from the same place as events, so it can never overtake one.

mod core;
mod hub;
mod intervals;
mod matcher;
#[cfg(test)]
mod tests;
mod watcher;

pub use self::core::Limits;
pub use hub::{Hub, StoreAccess};
pub use watcher::{ProgressHandle, Watcher};
