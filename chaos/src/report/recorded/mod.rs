//! What a run's folder says, read for showing it. Pure.
//!
//! Names of operations, faults and counts are taken as they stand in the files: a new workload or fault needs no change here. Reading is
//! lenient, since the folder of a run that was ended half-way is worth a page too; only checkers are strict.

mod fault;
mod operation;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::history::{EventKind, Process};

pub(crate) use fault::{Fault, Sighting};
pub(crate) use operation::Operation;

/// What the history calls a look at containers.
const LOOK: &str = "containers";

/// One run as its folder shows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorded {
    /// Name of the folder.
    pub name: String,
    /// The command line that repeats the run: the one full description of what was asked for.
    pub reproduce: String,
    /// When it began, as RFC 3339.
    pub started: String,
    pub conclusion: Conclusion,
    pub operations: Vec<Operation>,
    /// What came without being asked for at that moment, such as the responses of a watch.
    pub notices: Vec<Operation>,
    pub faults: Vec<Fault>,
    /// Who led, whenever somebody looked.
    pub leaders: Vec<Sighting>,
    /// What the harness noted beside faults: recovery, audit.
    pub remarks: Vec<Remark>,
    /// Entries of each member's log.
    pub logs: Vec<(String, usize)>,
}

/// What was judged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conclusion {
    pub mark: Mark,
    pub violations: Vec<Broken>,
    pub reasons: Vec<String>,
    pub checkers: Vec<Checker>,
    pub counts: Vec<(String, u64)>,
}

/// The verdict in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mark {
    Pass,
    Fail,
    Invalid,
    /// The folder holds no verdict.
    #[default]
    Unfinished,
}

impl Mark {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Invalid => "invalid",
            Self::Unfinished => "unfinished",
        }
    }
}

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Broken {
    pub rule: String,
    pub sentence: String,
    #[serde(default)]
    pub operations: Vec<u64>,
}

/// What one checker looked at and said.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Checker {
    pub name: String,
    #[serde(default)]
    pub scope: String,
    #[serde(default)]
    violations: Vec<Value>,
    #[serde(default)]
    unknown: Vec<Value>,
}

impl Checker {
    pub(crate) fn verdict(&self) -> &'static str {
        if !self.violations.is_empty() {
            "fail"
        } else if !self.unknown.is_empty() {
            "unknown"
        } else {
            "pass"
        }
    }
}

/// What the harness noted beside faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remark {
    pub time: u64,
    pub f: String,
    pub text: String,
}

/// The texts of a folder's files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts {
    pub name: String,
    /// For a run that does not say when it began.
    pub modified: String,
    pub options: String,
    pub history: String,
    pub result: String,
    /// Name and number of lines.
    pub logs: Vec<(String, usize)>,
}

/// One line of a history.
#[derive(Deserialize)]
struct Line<'a> {
    index: u64,
    time: u64,
    #[serde(rename = "type")]
    kind: EventKind,
    process: Process,
    f: String,
    key: Option<String>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    node: Option<String>,
    rev: Option<i64>,
    error: Option<String>,
}

impl Recorded {
    /// Reads the texts; what cannot be read is left out.
    pub(crate) fn read(texts: &Texts) -> Self {
        let options: Value = serde_json::from_str(&texts.options).unwrap_or_default();
        let result: Value = serde_json::from_str(&texts.result).unwrap_or_default();
        let text = |value: &Value, name: &str| {
            value.get(name).and_then(Value::as_str).map(ToOwned::to_owned).unwrap_or_default()
        };
        let mut recorded = Self {
            name: texts.name.clone(),
            reproduce: text(&options, "reproduce"),
            started: text(&options, "started"),
            conclusion: conclusion(&result),
            logs: texts.logs.clone(),
            ..Self::default()
        };
        if recorded.started.is_empty() {
            recorded.started.clone_from(&texts.modified);
        }
        let lines: Vec<Line<'_>> =
            texts.history.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let (of_nemesis, of_clients): (Vec<_>, Vec<_>) =
            lines.into_iter().partition(|line| line.process == Process::NEMESIS);
        let paired = operation::pair(of_clients);
        // What the harness looked at is no operation of a client, and is shown where a violation names it.
        let (looks, operations): (Vec<_>, Vec<_>) =
            paired.operations.into_iter().partition(|operation| operation.f == LOOK);
        (recorded.operations, recorded.notices) = (operations, paired.notices);
        recorded.notices.extend(looks);
        recorded.notices.sort_by_key(|notice| notice.index);
        fault::read(&of_nemesis, &mut recorded);
        recorded
    }

    /// Returns the value of a flag of the command line.
    pub(crate) fn flag(&self, name: &str) -> Option<&str> {
        let mut words = self.reproduce.split_whitespace();
        words.find(|word| word.strip_prefix("--") == Some(name))?;
        words.next()
    }

    /// Returns the last moment of the history.
    pub(crate) fn end(&self) -> u64 {
        let operations = self.operations.iter().map(|operation| operation.ended_at);
        let remarks = self.remarks.iter().map(|remark| remark.time);
        operations.chain(remarks).chain(self.faults.iter().map(|fault| fault.ended)).max().unwrap_or(0)
    }

    /// Returns every member that was named.
    pub(crate) fn members(&self) -> Vec<String> {
        let asked = self.operations.iter().filter_map(|operation| operation.node.clone());
        let logs = self.logs.iter().map(|(name, _)| name.clone());
        asked.chain(logs).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Returns kinds of faults, in the order in which they came.
    pub(crate) fn kinds(&self) -> Vec<String> {
        let mut kinds: Vec<String> = Vec::new();
        for fault in &self.faults {
            if !kinds.contains(&fault.kind) {
                kinds.push(fault.kind.clone());
            }
        }
        kinds
    }

    /// Returns the indexes that violations name.
    pub(crate) fn culprits(&self) -> BTreeSet<u64> {
        self.conclusion.violations.iter().flat_map(|broken| broken.operations.iter().copied()).collect()
    }

    /// Counts operations by name and end.
    pub(crate) fn by_function(&self) -> BTreeMap<&str, [usize; 3]> {
        let mut counts: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
        for operation in self.operations.iter().chain(&self.notices) {
            let [ok, fail, info] = counts.entry(&operation.f).or_default();
            match operation.end {
                EventKind::Ok => *ok += 1,
                EventKind::Fail => *fail += 1,
                EventKind::Info | EventKind::Invoke => *info += 1,
            }
        }
        counts
    }

    /// Returns the operation, or the notice, of this index.
    pub(crate) fn find(&self, index: u64) -> Option<&Operation> {
        let find = |sorted: &'_ [Operation]| sorted.binary_search_by_key(&index, |found| found.index).ok();
        let operation = find(&self.operations).and_then(|place| self.operations.get(place));
        operation.or_else(|| find(&self.notices).and_then(|place| self.notices.get(place)))
    }

    /// Returns how many operations were answered.
    pub(crate) fn answered(&self) -> usize {
        self.operations.iter().filter(|operation| operation.end == EventKind::Ok).count()
    }

    /// Returns how many faults left a witness.
    pub(crate) fn witnessed(&self) -> usize {
        self.faults.iter().filter(|fault| fault.witness.is_some()).count()
    }
}

fn conclusion(result: &Value) -> Conclusion {
    let mark = match result.get("verdict").and_then(Value::as_str) {
        Some("pass") => Mark::Pass,
        Some("fail") => Mark::Fail,
        Some("invalid") => Mark::Invalid,
        Some(_) | None => Mark::Unfinished,
    };
    let mut counts = Vec::new();
    if let Some(value) = result.get("counts") {
        flatten(value, "", &mut counts);
    }
    Conclusion {
        mark,
        violations: list(result, "violations"),
        reasons: list(result, "reasons"),
        checkers: list(result, "checkers"),
        counts,
    }
}

fn list<T: serde::de::DeserializeOwned>(result: &Value, name: &str) -> Vec<T> {
    let items = result.get(name).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| T::deserialize(item).ok()).collect()
}

/// Counts may be nested by kind.
fn flatten(value: &Value, name: &str, into: &mut Vec<(String, u64)>) {
    if let Some(number) = value.as_u64() {
        into.push((name.replace('_', " "), number));
    }
    for (inner, value) in value.as_object().into_iter().flatten() {
        let name = if name.is_empty() { inner.clone() } else { format!("{name} {inner}") };
        flatten(value, &name, into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn a_folder_is_read_whatever_its_operations_and_faults_are_called() {
        let run = Recorded::read(&example::texts());
        assert_eq!(run.by_function(), BTreeMap::from([("dance", [2, 1, 1]), ("read", [1, 0, 0])]));
        assert_eq!(run.kinds(), ["flood", "kill"]);
        assert_eq!(run.members(), ["n1", "n2"]);
        assert_eq!((run.answered(), run.witnessed()), (3, 1));
        assert_eq!(run.culprits(), BTreeSet::from([0, 4]));
        assert_eq!((run.flag("members"), run.flag("nothing")), (Some("2"), None));
        assert_eq!(run.conclusion.counts, [("faults kill".to_owned(), 1), ("operations".to_owned(), 3)]);
    }

    #[test]
    fn an_empty_or_broken_folder_is_an_unfinished_run() {
        let texts = Texts {
            history: "{\"history_format\":1}\n{\"index\":0,\"ti".to_owned(),
            modified: "2026-01-01T00:00:00Z".to_owned(),
            ..Texts::default()
        };
        let run = Recorded::read(&texts);
        assert_eq!((run.conclusion.mark, run.operations.len(), run.end()), (Mark::Unfinished, 0, 0));
        assert_eq!(run.started, texts.modified);
    }
}
