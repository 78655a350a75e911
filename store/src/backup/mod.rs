//! Copies of the state as files, in etcd's own format, so that either side's tools take the other's (`docs/backup.md`).
//!
//! ```text
//! engine ──write──► bbolt file ‖ SHA-256 ──read──► assembly ──► data directory of a new cluster
//! ```
//!
//! - [`layout`], [`record`]: what etcd keeps where.
//! - [`mod@write`]: a state as a file. [`spool`]: the same for a running member, on its way to a client.
//! - [`read`]: a file, checked, into a state. [`checksum`]: the hash that etcd's tools show.
//! - [`mod@restore`]: a new data directory from a file, or from [`remains`] of a lost cluster. [`founder`]: its ids;
//!   [`draft`]: it comes into being whole.
//! - [`save`]: a file from a running member, of ours or etcd's.
//! - [`cli`]: the commands. [`show`]: what they print.
//!
//! Invariant: a restored cluster is another one. It has a new id, and unless its source was frozen, higher revisions than anything
//! that the source may have answered since (safety rule 10).

mod checksum;
mod layout;
mod record;
mod write;

mod spool;

mod read;

mod draft;
mod founder;
mod remains;
mod restore;

pub mod cli;
mod save;
mod show;

pub use read::{HashCheck, SnapshotError, SnapshotStatus};
pub use remains::RemainsError;
pub use restore::{Origin, Past, Restore, RestoreError, Restored, restore};
pub use spool::Spooled;
pub(crate) use spool::{PREFIX as SPOOL_PREFIX, Spool, SpoolError};
pub use write::BackupError;
pub(crate) use write::STORAGE_VERSION;

#[cfg(test)]
pub(crate) use read::Snapshot;
#[cfg(test)]
pub(crate) use tests::recorded_files;
#[cfg(test)]
pub(crate) use write::write;

#[cfg(test)]
mod tests;
