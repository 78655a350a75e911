//! The pure MVCC core: keys, revisions, transactions, leases and events. It knows no tokio, clock or openraft, and disks
//! only as the `Engine` trait.
//!
//! Read in this order: what is asked (`request`, `command`), what is kept (`row`, `index`, `leases`, `alarms`, `downgrade`, `meta`, `digest`), what
//! is done (`store`, `txn`, `range`, `compact`), who may do it (`authorize`, over `crate::auth`), and copies of it all (`snapshot`, `assemble`).
//!
//! Invariants: a transaction that changes anything adds exactly one revision; rows are never rewritten; nothing readable is
//! ever collected; the same commands give the same bytes on every member.

mod command;
pub mod divergence;
mod refusal;
pub mod request;
pub mod revision;
mod validate;

mod alarms;
mod digest;
mod downgrade;
mod index;
mod leases;
mod meta;
mod row;

mod assemble;
mod authorize;
mod compact;
mod history;
mod range;
mod saved;
pub mod snapshot;
mod store;
mod txn;

#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
mod tests;

pub use alarms::{Alarm, AlarmKind};
pub(crate) use assemble::{Assembly, Numbers};
pub use command::{Answer, Applied, Command, GrantedLease, LeaseRemaining};
pub use compact::{Collection, Piece, Uncollected};
pub use downgrade::Downgrade;
pub use history::{History, HistoryLimits};
pub use index::RowBytes;
pub use index::saved::SavedIndexError;
pub(crate) use index::saved::{KEYS_MAX, Mark, Writer};
pub use leases::Lease;
pub(crate) use meta::{MetaKey, STATE_FORMAT, StateRecord, check_format};
pub use range::Bounded;
pub use refusal::Refusal;
pub use request::{
    Compare, CompareResult, CompareTarget, DeleteRange, Event, EventKind, KeyRange, KeyValue, Op, OpResult,
    Put, Range, RangeEnd, RangeResult, RevisionEvents, SortOrder, SortTarget, Txn, TxnResult,
};
pub use revision::{LeaseId, Revision};
pub(crate) use row::corrupt;
pub use row::{Row, RowId};
pub use store::Store;
pub(crate) use store::stored_level;
pub use validate::{Invalid, TXN_OPS_MAX};
