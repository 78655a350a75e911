//! What must hold inside a commit, and what it means when it does not.

use bytes::Bytes;
use store::mvcc::{
    Compare, CompareResult, CompareTarget, KeyRange, KeyValue, Op, OpResult, Put, Range, Revision, Txn,
    TxnResult,
};

use super::{Storage, StorageError};

/// The state that one key must be in at the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    Absent,
    /// Last written at this revision.
    At(Revision),
    /// Created at this revision, however often written since.
    CreatedAt(Revision),
}

/// One condition of a commit, with the failure that its violation means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) key: String,
    pub(crate) expect: Expect,
    pub(crate) violated: StorageError,
}

/// What a write does and needs beside the object itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extras {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) puts: Vec<Put>,
    pub(crate) deletes: Vec<String>,
}

impl Extras {
    pub(crate) fn merge(&mut self, other: Self) {
        self.conditions.extend(other.conditions);
        self.puts.extend(other.puts);
        self.deletes.extend(other.deletes);
    }
}

impl Condition {
    fn compare(&self) -> Compare {
        let target = match self.expect {
            Expect::Absent => CompareTarget::CreateRevision(Revision(0)),
            Expect::At(revision) => CompareTarget::ModRevision(revision),
            Expect::CreatedAt(revision) => CompareTarget::CreateRevision(revision),
        };
        Compare { range: KeyRange::single(self.key.clone()), target, result: CompareResult::Equal }
    }

    fn holds_for(&self, found: Option<&KeyValue>) -> bool {
        match (self.expect, found) {
            (Expect::Absent, found) => found.is_none(),
            (Expect::At(revision), Some(found)) => found.mod_revision == revision,
            (Expect::CreatedAt(revision), Some(found)) => found.create_revision == revision,
            (Expect::At(_) | Expect::CreatedAt(_), None) => false,
        }
    }
}

impl Storage {
    /// Confirms conditions without writing.
    pub(crate) async fn check(&self, conditions: Vec<Condition>) -> Result<(), StorageError> {
        if conditions.is_empty() {
            return Ok(());
        }
        self.commit(conditions, Vec::new()).await.map(|_| ())
    }

    /// Commits `steps` if all conditions hold at that moment; otherwise fails as the first violated one says.
    pub(super) async fn commit(
        &self,
        conditions: Vec<Condition>,
        steps: Vec<Op>,
    ) -> Result<TxnResult, StorageError> {
        let look = |condition: &Condition| Op::Range(Range::new(KeyRange::single(condition.key.clone())));
        let txn = Txn {
            compare: conditions.iter().map(Condition::compare).collect(),
            success: steps,
            failure: conditions.iter().map(look).collect(),
        };
        let result = self.kv.txn(txn).await?;
        if result.succeeded {
            return Ok(result);
        }
        let violated = conditions.iter().zip(&result.results).find(|(condition, found)| match found {
            OpResult::Range(range) => !condition.holds_for(range.kvs.first()),
            OpResult::Put { .. } | OpResult::DeleteRange { .. } | OpResult::Txn(_) => false,
        });
        Err(violated.map_or(StorageError::Modified, |(condition, _)| condition.violated.clone()))
    }
}

/// Returns a put of `value` without lease.
pub(crate) fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Put {
    Put { key: key.into(), value: value.into(), ..Put::default() }
}
