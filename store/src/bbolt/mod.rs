//! The file format of bbolt, which etcd keeps its data in: enough to read any such file and to write a new one whole.
//!
//! ```text
//! page 0, 1   meta: page size, root, number of pages, checksum; the valid one of the later transaction counts
//! other pages header(id, kind, count, overflow) ‖ elements ‖ keys and values; branch pages lead to leaf pages
//! bucket      a tree of pages, or one small page inside the value that names it
//! ```
//!
//! - [`mod@format`]: the fields of pages.
//! - [`read`]: walks buckets in key order. It believes nothing: every offset is checked, and keys must ascend.
//! - [`mod@write`]: takes keys in order, and keeps one page of each level in memory.
//!
//! It knows nothing of what etcd keeps in buckets, and cannot change a file: transactions and free pages are no part of this.

mod format;
mod read;
mod write;

pub(crate) use read::{Bucket, ReadError, Reader, Visitor};
pub(crate) use write::{Tree, WriteError, Writer};

#[cfg(test)]
mod tests;
