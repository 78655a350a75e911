//! The write-ahead log: what must survive a power cut before a member answers anyone.
//!
//! One synchronous core ([`Wal`]) turns submitted records into batches and batches into one write and one sync on a
//! [`Disk`]. In production an operating-system thread drives it ([`driver`]), in the simulator a task does.
//!
//! ```text
//! segment file:  [head block][state batch][batch][batch]....zeros
//! batch:         [Batch{synced, length}][record][record]..  padded to a whole block
//! record:        length u32 | crc32 u32 | segment sequence u64 | type u8 | payload
//! ```
//!
//! - A batch starts on a block of its own, so writing it never touches a block that was synced before.
//! - A batch header carries the offset up to which its segment was synced when it was written. A bad record below any
//!   such offset is corruption and refused with file and offset; only above it is it a torn tail (safety rule 1).
//! - Opening rewrites what stands above the last proven offset into a fresh segment and syncs it before anything is
//!   reported (safety rule 2): bytes that only the page cache held would otherwise be reported and then lost.
//! - Once a segment has begun, the one before is sealed: a newest segment that was lost as a whole is missed.
//! - A failed write or sync poisons the core; it is never retried (safety rule 3).
//! - Segments are zero-filled ahead and recycled. The segment sequence inside the checksum makes stale bytes unreadable.
//!
//! It does not know openraft, tokio or what an entry means.

mod core;
pub mod disk;
pub mod disk_fs;
pub mod disk_sim;
pub mod driver;
mod record;
mod recover;
mod segment;

pub(crate) use core::read_entry;
pub use core::{Flushed, Inspected, Wal, WalConfig, WalError};
pub(crate) use disk::is_full;
pub use disk::{Disk, FreeSpace};
pub use record::{Entry, LogPosition, LogState, Record, Vote};
pub use recover::{LoggedEntry, Recovered};
pub use segment::Location;

#[cfg(test)]
mod tests;
