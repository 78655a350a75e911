//! Transactions: choose the branch on the state before, check the chosen path, then write. After the first write nothing
//! can fail any more, so no undo exists.

use std::cmp::Ordering;

use super::store::{Change, Store, Writing};
use super::{
    Compare, CompareResult, CompareTarget, DeleteRange, EventKind, KeyRange, LeaseId, Op, OpResult, Put,
    Range, Refusal, Revision, RevisionEvents, Txn, TxnResult,
};
use crate::engine::EngineError;

/// A transaction with its branch chosen; `nested` are those of the branch, in order.
struct Chosen<'a> {
    succeeded: bool,
    ops: &'a [Op],
    nested: Vec<Chosen<'a>>,
}

impl Chosen<'_> {
    /// Visits the steps of the path in order, until one is refused.
    fn visit(&self, check: &mut impl FnMut(&Op) -> Result<(), Refusal>) -> Result<(), Refusal> {
        let mut nested = self.nested.iter();
        for op in self.ops {
            check(op)?;
            match op {
                Op::Txn(_) => nested.next().expect("one choice for each nested txn").visit(check)?,
                Op::Range(_) | Op::Put(_) | Op::DeleteRange(_) => {}
            }
        }
        Ok(())
    }
}

impl Store {
    pub(super) fn apply_txn(
        &mut self,
        txn: &Txn,
        events: &mut Vec<RevisionEvents>,
    ) -> Result<Result<TxnResult, Refusal>, EngineError> {
        let chosen = self.choose(txn)?;
        if let Err(refusal) = self.check(&chosen) {
            return Ok(Err(refusal));
        }
        let mut writing = self.begin_write();
        let mut result = self.run(&chosen, &mut writing)?;
        self.end_write(writing, events);
        set_revision(&mut result, self.state.revision);
        Ok(Ok(result))
    }

    /// Runs a transaction that cannot write, on the committed state.
    ///
    /// # Errors
    /// The outer error is the engine's, the inner one the store's answer.
    ///
    /// # Panics
    /// When `txn` can write; see [`Txn::is_read_only`].
    pub fn read_txn(&self, txn: &Txn) -> Result<Result<TxnResult, Refusal>, EngineError> {
        let chosen = self.choose(txn)?;
        if let Err(refusal) = self.check(&chosen) {
            return Ok(Err(refusal));
        }
        self.read(&chosen).map(Ok)
    }

    /// Returns about how much memory the answer to a transaction takes, whichever branch is chosen, in the state as it is now.
    #[must_use]
    pub fn txn_bytes(&self, txn: &Txn) -> u64 {
        let branch = |ops: &[Op]| ops.iter().map(|op| self.op_bytes(op)).fold(0, u64::saturating_add);
        branch(&txn.success).max(branch(&txn.failure))
    }

    fn op_bytes(&self, op: &Op) -> u64 {
        match op {
            Op::Range(range) => self.range_bytes(range),
            Op::DeleteRange(delete) if delete.prev_kv => self.range_bytes(&Range::new(delete.range.clone())),
            Op::Put(put) if put.prev_kv => self.range_bytes(&Range::new(KeyRange::single(put.key.clone()))),
            Op::Put(_) | Op::DeleteRange(_) => 0,
            Op::Txn(txn) => self.txn_bytes(txn),
        }
    }

    fn read(&self, chosen: &Chosen<'_>) -> Result<TxnResult, EngineError> {
        let mut nested = chosen.nested.iter();
        let mut results = Vec::with_capacity(chosen.ops.len());
        for op in chosen.ops {
            results.push(match op {
                Op::Range(range) => OpResult::Range(self.read_range(range, self.state.revision)?),
                Op::Txn(_) => {
                    OpResult::Txn(self.read(nested.next().expect("one choice for each nested txn"))?)
                }
                Op::Put(_) | Op::DeleteRange(_) => panic!("only transactions without writes are read"),
            });
        }
        Ok(TxnResult { succeeded: chosen.succeeded, results, revision: self.state.revision })
    }

    fn choose<'a>(&self, txn: &'a Txn) -> Result<Chosen<'a>, EngineError> {
        let mut succeeded = true;
        for compare in &txn.compare {
            if !self.compare_holds(compare)? {
                succeeded = false;
                break;
            }
        }
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let mut nested = Vec::new();
        for op in ops {
            match op {
                Op::Txn(inner) => nested.push(self.choose(inner)?),
                Op::Range(_) | Op::Put(_) | Op::DeleteRange(_) => {}
            }
        }
        Ok(Chosen { succeeded, ops, nested })
    }

    /// A compare over a range must hold for all its keys; an empty range counts as one absent key.
    fn compare_holds(&self, compare: &Compare) -> Result<bool, EngineError> {
        let mut found = false;
        for (key, entry) in self.index.range(&compare.range) {
            let Some(version) = entry.live() else { continue };
            found = true;
            let order = match &compare.target {
                CompareTarget::Version(given) => version.version.cmp(given),
                CompareTarget::CreateRevision(given) => version.create.cmp(given),
                CompareTarget::ModRevision(given) => version.main.cmp(given),
                CompareTarget::Lease(given) => version.lease.cmp(given),
                CompareTarget::Value(given) => self.read_row(key, version.row())?.value.cmp(given),
                CompareTarget::Unknown => Ordering::Equal,
            };
            if !relation_holds(compare.result, order) {
                return Ok(false);
            }
        }
        Ok(found || absent_holds(compare))
    }

    /// Checks all puts of the chosen path before its reads, as etcd does: of several refusals a client gets the same one.
    fn check(&self, chosen: &Chosen<'_>) -> Result<(), Refusal> {
        chosen.visit(&mut |op| match op {
            Op::Put(put) => self.check_put(put),
            Op::Range(_) | Op::DeleteRange(_) | Op::Txn(_) => Ok(()),
        })?;
        chosen.visit(&mut |op| match op {
            Op::Range(range) => self.check_readable(range.revision),
            Op::Put(_) | Op::DeleteRange(_) | Op::Txn(_) => Ok(()),
        })
    }

    fn check_put(&self, put: &Put) -> Result<(), Refusal> {
        let needs_key = put.ignore_value || put.ignore_lease;
        if needs_key && self.index.live(&put.key).is_none() {
            return Err(Refusal::KeyNotFound);
        }
        self.leases.check(put.lease)
    }

    fn run(&mut self, chosen: &Chosen<'_>, writing: &mut Writing) -> Result<TxnResult, EngineError> {
        let mut nested = chosen.nested.iter();
        let mut results = Vec::with_capacity(chosen.ops.len());
        for op in chosen.ops {
            results.push(match op {
                Op::Range(range) => OpResult::Range(self.read_range(range, self.seen_revision(writing))?),
                Op::Put(put) => self.run_put(put, writing)?,
                Op::DeleteRange(delete) => self.run_delete(delete, writing)?,
                Op::Txn(_) => {
                    OpResult::Txn(self.run(nested.next().expect("one choice for each nested txn"), writing)?)
                }
            });
        }
        let revision = self.seen_revision(writing);
        Ok(TxnResult { succeeded: chosen.succeeded, results, revision })
    }

    /// The revision that a step inside a transaction stands at.
    fn seen_revision(&self, writing: &Writing) -> Revision {
        if writing.events.is_empty() { self.state.revision } else { writing.revision }
    }

    fn run_put(&mut self, put: &Put, writing: &mut Writing) -> Result<OpResult, EngineError> {
        let old = if put.ignore_value { self.live_kv(&put.key)? } else { None };
        let lease = if put.ignore_lease {
            self.index.live(&put.key).map_or(LeaseId::NONE, |version| version.lease)
        } else {
            put.lease
        };
        let value = old.map_or_else(|| put.value.clone(), |old| old.value);
        let change = Change { kind: EventKind::Put, key: &put.key, value, lease };
        let prev = self.write_key(writing, change)?;
        Ok(OpResult::Put { prev: prev.filter(|_| put.prev_kv) })
    }

    fn run_delete(&mut self, delete: &DeleteRange, writing: &mut Writing) -> Result<OpResult, EngineError> {
        let keys: Vec<_> = self
            .index
            .range(&delete.range)
            .filter(|(_, entry)| entry.live().is_some())
            .map(|(key, _)| key.clone())
            .collect();
        let mut prev = Vec::new();
        for key in &keys {
            let old = self.delete_key(writing, key)?;
            prev.extend(old.filter(|_| delete.prev_kv));
        }
        let deleted = u64::try_from(keys.len()).expect("a count of keys fits 64 bits");
        Ok(OpResult::DeleteRange { deleted, prev, revision: self.seen_revision(writing) })
    }
}

/// Gives a transaction and all nested ones the revision that they have together.
fn set_revision(result: &mut TxnResult, revision: Revision) {
    result.revision = revision;
    for nested in &mut result.results {
        match nested {
            OpResult::Txn(nested) => set_revision(nested, revision),
            OpResult::Range(_) | OpResult::Put { .. } | OpResult::DeleteRange { .. } => {}
        }
    }
}

fn relation_holds(relation: CompareResult, order: Ordering) -> bool {
    match relation {
        CompareResult::Equal => order.is_eq(),
        CompareResult::NotEqual => order.is_ne(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
        CompareResult::Unknown => true,
    }
}

/// An absent key has version, revisions and lease 0; its value compares as false whatever the relation.
fn absent_holds(compare: &Compare) -> bool {
    let order = match &compare.target {
        CompareTarget::Version(given) => 0.cmp(given),
        CompareTarget::CreateRevision(given) | CompareTarget::ModRevision(given) => Revision(0).cmp(given),
        CompareTarget::Lease(given) => LeaseId::NONE.cmp(given),
        CompareTarget::Value(_) => return false,
        CompareTarget::Unknown => Ordering::Equal,
    };
    relation_holds(compare.result, order)
}
