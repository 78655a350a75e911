//! Runs of real processes, each by `chaos run` of a program in a process of its own.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;
use chaos::nemesis::missing_for_containers;
use chaos::workload::Nodes;
use serde_json::Value;

use super::{Real, SWITCH};
use crate::run::{RECOVERY, Summary};

/// Operations in a second: far below what a busy machine can do, since no verdict may depend on its speed.
const RATE: &str = "100";

/// Whether this machine can run them.
pub(super) fn is_possible() -> bool {
    // Namespaces and rules of a network need root.
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Whether a workload needs containers that cannot run here.
pub(super) fn lacks_containers(workload: &str) -> bool {
    let needs = chaos::workload::named(workload).is_ok_and(|workload| workload.nodes == Nodes::Real);
    needs && missing_for_containers().is_some()
}

/// One run of a recipe.
pub(super) struct Order<'a> {
    /// What harness and members run.
    pub(super) program: &'a Path,
    pub(super) recipe: &'a Real,
    pub(super) seed: u64,
    pub(super) plant: Option<&'a str>,
    pub(super) folder: &'a Path,
}

/// Carries out one run, with a plant or without.
///
/// # Errors
/// When it cannot be started, or left no result.
pub(super) fn run(order: &Order<'_>) -> anyhow::Result<Summary> {
    let Order { program, folder, seed, .. } = *order;
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    let output = Command::new(program)
        .args(words(order.recipe, seed))
        .arg("--output")
        .arg(folder)
        // Members and harness alike: each plant is in one of them.
        .envs(order.plant.map(|name| (SWITCH, name)))
        .stdin(Stdio::null())
        .output()
        .context("cannot start a run")?;
    let result = folder.join("result.json");
    let text = std::fs::read_to_string(&result).with_context(|| {
        let said = [output.stdout, output.stderr].concat();
        format!("the run left no result: {}", String::from_utf8_lossy(&said).trim())
    })?;
    let result: Value = serde_json::from_str(&text).with_context(|| result.display().to_string())?;
    Ok(Summary { seed, ..summary(&result) })
}

/// Returns the arguments of a run.
pub(super) fn words(recipe: &Real, seed: u64) -> Vec<String> {
    let seconds = format!("{}s", recipe.lasts.as_secs());
    let (workload, nemesis, seed) = (recipe.workload, recipe.nemesis, seed.to_string());
    let words = ["chaos", "run", "--workload", workload, "--nemesis", nemesis, "--time-limit", &seconds];
    words.into_iter().chain(["--rate", RATE, "--seed", &seed]).map(str::to_owned).collect()
}

/// Reads what a run came to.
fn summary(result: &Value) -> Summary {
    let list = |value: &Value, field: &str| value.get(field).and_then(Value::as_array).cloned();
    let texts = |values: Vec<Value>| -> Vec<String> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        values.iter().map(text).collect()
    };
    let violations = list(result, "violations").unwrap_or_default();
    let (mut found_by, mut named) = (Vec::new(), 0);
    for checker in list(result, "checkers").unwrap_or_default() {
        let found = list(&checker, "violations").map_or(0, |found| found.len());
        if found > 0 {
            found_by.extend(checker.get("name").and_then(Value::as_str).map(str::to_owned));
        }
        named += found;
    }
    if violations.len() > named {
        found_by.push(RECOVERY.to_owned());
    }
    let reasons = list(result, "reasons").unwrap_or_default();
    let operations = result.pointer("/counts/operations").and_then(Value::as_u64).unwrap_or(0);
    Summary {
        verdict: result.get("verdict").and_then(Value::as_str).unwrap_or_default().to_owned(),
        findings: texts([violations, reasons].concat()),
        found_by,
        operations: usize::try_from(operations).unwrap_or(usize::MAX),
        ..Summary::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_found_something_is_read_from_a_result() {
        let violation = json!({ "rule": "stale read", "sentence": "#1", "operations": [1] });
        let checker = |name: &str, found: &[Value]| json!({ "name": name, "violations": found });
        let one = std::slice::from_ref(&violation);
        let result = json!({
            "verdict": "fail",
            "violations": [violation, { "rule": "no recovery" }],
            "checkers": [checker("witness", one), checker("set", &[])],
            "counts": { "operations": 7 },
        });
        let summary = summary(&result);
        assert_eq!(summary.found_by, ["witness", RECOVERY]);
        assert_eq!((summary.verdict.as_str(), summary.operations), ("fail", 7));
    }

    #[test]
    fn reasons_of_an_invalid_run_are_findings() {
        let result = json!({ "verdict": "invalid", "violations": [], "reasons": ["left no witness"] });
        assert_eq!(summary(&result).findings, ["left no witness"]);
    }
}
