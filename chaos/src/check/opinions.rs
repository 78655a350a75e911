//! All checkers, each with what it looked at and what it found.

use std::collections::BTreeMap;

use super::kubernetes::{leader, list_watch, node, occ, orphans, replicas, scheduling};
use super::linearizability::{self, Limits};
use super::{
    Record, Verdict, Violation, append, bank, compaction, convergence, counter, lease, lock, registers, set,
    snapshot, watch, witness,
};
use crate::history::{End, Outcome, pair, transactions};

/// What one checker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// Name of the checker.
    pub checker: &'static str,
    /// What it looked at, in words.
    pub scope: String,
    pub violations: Vec<Violation>,
    /// What it could not judge.
    pub unknown: Vec<String>,
    /// What it counted, for the report.
    pub counts: BTreeMap<&'static str, usize>,
}

impl Opinion {
    /// Returns the verdict of this checker alone.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if !self.violations.is_empty() {
            Verdict::Fail(self.violations.clone())
        } else if !self.unknown.is_empty() {
            Verdict::Invalid(self.unknown.clone())
        } else {
            Verdict::Pass
        }
    }
}

/// A checker in the list.
pub struct Checker {
    pub name: &'static str,
    /// Says what it thinks of a record, or nothing where nothing is of its kind.
    ask: fn(&Record, Limits) -> Result<Option<Opinion>, String>,
}

/// Every checker. A new one gets a line here.
pub const CHECKERS: &[Checker] = &[
    Checker { name: witness::NAME, ask: |record, _| witness::opinion(record) },
    Checker { name: "linearizability", ask: registers_linearizable },
    Checker { name: "list-append", ask: lists_serializable },
    Checker { name: set::NAME, ask: |record, _| set::opinion(record) },
    Checker { name: counter::NAME, ask: |record, _| counter::opinion(record) },
    Checker { name: bank::NAME, ask: |record, _| bank::opinion(record) },
    Checker { name: watch::NAME, ask: |record, _| watch::opinion(record) },
    Checker { name: lease::NAME, ask: |record, _| lease::opinion(record) },
    Checker { name: lock::NAME, ask: |record, _| lock::opinion(record) },
    Checker { name: compaction::NAME, ask: |record, _| compaction::opinion(record) },
    Checker { name: snapshot::NAME, ask: |record, _| snapshot::opinion(record) },
    Checker { name: occ::NAME, ask: occ::opinion },
    Checker { name: list_watch::NAME, ask: |record, _| list_watch::opinion(record) },
    Checker { name: replicas::NAME, ask: |record, _| replicas::opinion(record) },
    Checker { name: scheduling::NAME, ask: |record, _| scheduling::opinion(record) },
    Checker { name: leader::NAME, ask: |record, _| leader::opinion(record) },
    Checker { name: orphans::NAME, ask: |record, _| orphans::opinion(record) },
    Checker { name: node::NAME, ask: |record, _| node::opinion(record) },
    Checker { name: convergence::NAME, ask: |record, _| convergence::opinion(record) },
];

/// Asks every checker that applies.
///
/// # Errors
/// A sentence saying how the history breaks the format.
pub fn opinions(record: &Record, limits: Limits) -> Result<Vec<Opinion>, String> {
    CHECKERS.iter().filter_map(|checker| (checker.ask)(record, limits).transpose()).collect()
}

fn registers_linearizable(record: &Record, limits: Limits) -> Result<Option<Opinion>, String> {
    let operations = pair(&record.events)?;
    if !operations.iter().any(|operation| matches!(operation.outcome, Outcome::Ok { .. })) {
        return Ok(None);
    }
    let report = match registers::keys(&operations) {
        Ok(keys) => linearizability::check(&keys, limits),
        Err(violations) => linearizability::Report { violations, ..linearizability::Report::default() },
    };
    Ok(Some(Opinion {
        checker: "linearizability",
        scope: format!("{} operations on {} registers", report.operations, report.keys),
        violations: report.violations,
        unknown: report.unknown,
        counts: BTreeMap::from([("operations", report.operations), ("registers", report.keys)]),
    }))
}

fn lists_serializable(record: &Record, _: Limits) -> Result<Option<Opinion>, String> {
    let transactions = transactions(&record.events)?;
    if !transactions.iter().any(|transaction| matches!(transaction.end, End::Committed { .. })) {
        return Ok(None);
    }
    let report = append::check(&transactions)?;
    Ok(Some(Opinion {
        checker: "list-append",
        scope: format!("{} transactions, {} dependencies", report.committed, report.edges),
        violations: report.violations,
        unknown: report.unknown,
        counts: BTreeMap::from([("transactions", report.committed), ("dependencies", report.edges)]),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::history::{Event, EventKind, Function, Process};

    fn event(index: u64, kind: EventKind, f: Function, value: Value) -> Event {
        let (process, key) = (Process::Client(0), (f != Function::Txn).then(|| "k".to_owned()));
        let rev = (kind == EventKind::Ok).then_some(2);
        Event { index, time: index, kind, process, f, key, value, node: None, rev, error: None }
    }

    fn checkers(events: &[Event]) -> Vec<(&'static str, bool)> {
        let record = Record::of_events(events.to_vec());
        let opinions = opinions(&record, Limits::default()).unwrap();
        opinions.iter().map(|opinion| (opinion.checker, opinion.verdict() == Verdict::Pass)).collect()
    }

    #[test]
    fn each_kind_of_operation_has_its_checker() {
        let register = [
            event(0, EventKind::Invoke, Function::Write, json!({ "value": "a" })),
            event(1, EventKind::Ok, Function::Write, json!("written")),
        ];
        let lists = [
            event(2, EventKind::Invoke, Function::Txn, json!([["r", "x", null]])),
            event(3, EventKind::Ok, Function::Txn, json!([["r", "x", [1]]])),
        ];
        assert_eq!(checkers(&register), [("linearizability", true)]);
        assert_eq!(checkers(&lists), [("list-append", false)]);
        assert_eq!(
            checkers(&[register, lists].concat()),
            [("linearizability", true), ("list-append", false)]
        );
        assert!(checkers(&[]).is_empty());
    }

    #[test]
    fn what_nobody_answered_gives_no_checker_anything_to_say() {
        let asked = event(0, EventKind::Invoke, Function::Read, Value::Null);
        assert!(checkers(&[asked]).is_empty());
    }

    #[test]
    fn what_could_not_be_judged_is_no_pass() {
        let unknown = vec!["k: no answer".to_owned()];
        let (scope, violations, counts) = (String::new(), Vec::new(), BTreeMap::new());
        let opinion = Opinion { checker: "x", scope, violations, unknown, counts };
        assert!(matches!(opinion.verdict(), Verdict::Invalid(_)));
    }
}
