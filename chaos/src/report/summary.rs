//! One run in a row: what an index, a set of runs and a comparison say of it. Pure.
//!
//! Read from options, result and the end of the history alone, so that a folder of many long runs has its index in a moment.

use serde::Serialize;
use serde_json::Value;

use super::recorded::{Conclusion, Mark, Recorded, Texts};

/// A run in short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    /// Folder, relative to where the index stands.
    pub place: String,
    pub verdict: Mark,
    /// The first thing that is wrong, in words.
    pub why: String,
    pub workload: String,
    pub nemesis: String,
    pub members: String,
    pub binary: String,
    pub seed: String,
    pub started: String,
    pub seconds: u64,
    pub operations: u64,
    pub faults: usize,
    pub faults_with_witness: usize,
    pub reproduce: String,
}

impl Summary {
    /// Reads a run; of the history only the last line is looked at.
    pub(crate) fn read(texts: &Texts) -> Self {
        let last: Value =
            texts.history.lines().rev().find_map(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        let head = Recorded::read(&Texts { history: String::new(), ..texts.clone() });
        let flag = |name: &str| head.flag(name).unwrap_or_default().to_owned();
        let (faults, faults_with_witness) = faults(&texts.result);
        Self {
            place: texts.name.clone(),
            verdict: head.conclusion.mark,
            why: why(&head.conclusion),
            workload: flag("workload"),
            nemesis: flag("nemesis"),
            members: flag("members"),
            binary: flag("binary").rsplit('/').next().unwrap_or_default().to_owned(),
            seed: flag("seed"),
            seconds: last.get("time").and_then(Value::as_u64).unwrap_or(0) / 1_000_000_000,
            operations: operations(&head.conclusion),
            faults,
            faults_with_witness,
            reproduce: head.reproduce.clone(),
            started: head.started,
        }
    }
}

fn why(conclusion: &Conclusion) -> String {
    let violation =
        conclusion.violations.first().map(|broken| format!("{}: {}", broken.rule, broken.sentence));
    violation.or_else(|| conclusion.reasons.first().cloned()).unwrap_or_default()
}

fn operations(conclusion: &Conclusion) -> u64 {
    let count = conclusion.counts.iter().find(|(name, _)| name == "operations");
    count.map_or(0, |(_, count)| *count)
}

/// Counts the faults that a result lists, and those with a witness.
fn faults(result: &str) -> (usize, usize) {
    let result: Value = serde_json::from_str(result).unwrap_or_default();
    let events = result.get("faults").and_then(Value::as_array).into_iter().flatten();
    let looked =
        events.filter(|event| event.pointer("/value/phase").and_then(Value::as_str) == Some("witness"));
    let witnesses: Vec<Option<&Value>> = looked.map(|event| event.pointer("/value/witness")).collect();
    (witnesses.len(), witnesses.iter().flatten().filter(|witness| !witness.is_null()).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn a_run_is_summed_up_from_its_result_and_its_last_line() {
        let mut texts = example::texts();
        texts.result = texts.result.replacen(
            "\"verdict\"",
            r#""faults": [{"value":{"phase":"witness","witness":{"pid":1}}},{"value":{"phase":"witness"}},{"value":{"phase":"end"}}], "verdict""#,
            1,
        );
        let summary = Summary::read(&texts);
        assert_eq!((summary.faults, summary.faults_with_witness), (2, 1));
        assert_eq!((summary.operations, summary.seconds), (3, 1));
        assert_eq!((summary.workload.as_str(), summary.binary.as_str()), ("ball", "keelson"));
        assert!(summary.why.starts_with("stale read: #4"));
    }
}
