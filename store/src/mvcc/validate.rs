//! Checks on requests that need no state. They run before a request is proposed, so the log holds valid commands only.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{KeyRange, Op, Put, RangeEnd, Txn};

/// Most steps of a branch, or compares, in one transaction, unless told otherwise; nested transactions share what is left (etcd's default).
pub const TXN_OPS_MAX: usize = 128;

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("key is not provided")]
    EmptyKey,
    #[error("value is provided although the old one is to be kept")]
    ValueProvided,
    #[error("lease is provided although the old one is to be kept")]
    LeaseProvided,
    #[error("too many steps or compares")]
    TooManyOps,
    #[error("a key is written twice")]
    DuplicateKey,
}

impl KeyRange {
    /// Checks that there is a start key.
    ///
    /// # Errors
    /// [`Invalid::EmptyKey`].
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.start.is_empty() { Err(Invalid::EmptyKey) } else { Ok(()) }
    }

    /// Returns whether `key` is in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => self.start == key,
            RangeEnd::Before(end) => self.start <= key && key < end.as_ref(),
            RangeEnd::Unbounded => self.start <= key,
        }
    }
}

impl Txn {
    /// Checks shape, that no branch has more than `ops_max` steps, and that no key is written twice on one path.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self, ops_max: usize) -> Result<(), Invalid> {
        check_shape(self, ops_max)?;
        written_keys(&self.success)?;
        written_keys(&self.failure)?;
        Ok(())
    }
}

fn check_shape(txn: &Txn, ops_max: usize) -> Result<(), Invalid> {
    let largest = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    let left = ops_max.checked_sub(largest).ok_or(Invalid::TooManyOps)?;
    txn.compare.iter().try_for_each(|compare| compare.range.validate())?;
    txn.success.iter().chain(&txn.failure).try_for_each(|op| match op {
        Op::Range(range) => range.range.validate(),
        Op::DeleteRange(delete) => delete.range.validate(),
        Op::Put(put) => check_put(put),
        Op::Txn(nested) => check_shape(nested, left),
    })
}

fn check_put(put: &Put) -> Result<(), Invalid> {
    if put.key.is_empty() {
        return Err(Invalid::EmptyKey);
    }
    if put.ignore_value && !put.value.is_empty() {
        return Err(Invalid::ValueProvided);
    }
    if put.ignore_lease && put.lease.0 != 0 {
        return Err(Invalid::LeaseProvided);
    }
    Ok(())
}

/// What one branch writes.
#[derive(Default)]
struct Written<'a> {
    puts: BTreeSet<&'a Bytes>,
    deletes: Vec<&'a KeyRange>,
}

impl<'a> Written<'a> {
    fn put(&mut self, key: &'a Bytes) -> Result<(), Invalid> {
        let deleted = self.deletes.iter().any(|range| range.contains(key));
        if deleted || !self.puts.insert(key) { Err(Invalid::DuplicateKey) } else { Ok(()) }
    }
}

/// Collects what a branch writes and refuses a put of a key that is put or deleted elsewhere in it. Deletes may overlap.
/// The two branches of one nested transaction exclude each other and may write the same keys.
fn written_keys(ops: &[Op]) -> Result<Written<'_>, Invalid> {
    let mut written = Written::default();
    for op in ops {
        match op {
            Op::DeleteRange(delete) => written.deletes.push(&delete.range),
            Op::Range(_) | Op::Put(_) | Op::Txn(_) => {}
        }
    }
    for op in ops {
        match op {
            Op::Txn(nested) => {
                let success = written_keys(&nested.success)?;
                let failure = written_keys(&nested.failure)?;
                let both: BTreeSet<&Bytes> = success.puts.union(&failure.puts).copied().collect();
                both.into_iter().try_for_each(|key| written.put(key))?;
                written.deletes.extend(success.deletes.into_iter().chain(failure.deletes));
            }
            Op::Range(_) | Op::Put(_) | Op::DeleteRange(_) => {}
        }
    }
    for op in ops {
        match op {
            Op::Put(put) => written.put(&put.key)?,
            Op::Range(_) | Op::DeleteRange(_) | Op::Txn(_) => {}
        }
    }
    Ok(written)
}
