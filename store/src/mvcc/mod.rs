//! The pure MVCC core: keys, revisions, transactions, leases and events. It knows no tokio, clock, disk or openraft.

pub mod request;
pub mod revision;

pub use request::{
    Compare, CompareResult, CompareTarget, DeleteRange, Event, EventKind, KeyRange, KeyValue, Op, OpResult,
    Put, Range, RangeEnd, RangeResult, SortOrder, SortTarget, Txn, TxnResult,
};
pub use revision::{LeaseId, Revision};
