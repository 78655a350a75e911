//! From everything a run recorded to its verdict.
//!
//! A broken promise is a failure however short the run was. Without one, the run passes only if it did enough: operations,
//! each kind of fault that was asked for, a witness of each fault, the leader among those hit.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::witness::{self, LogEntry};
use super::{Verdict, Violation};
use crate::history::{Event, EventKind, Function, Outcome, Process, pair};

/// What a run must have done to prove anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minimums {
    /// Operations with a known outcome.
    pub operations: usize,
    /// Faults of each kind.
    pub kills: usize,
    pub partitions: usize,
    /// Faults that hit the leader.
    pub on_leader: usize,
}

/// What a run did, for the report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub operations: usize,
    pub reads: usize,
    pub writes: usize,
    pub failed: usize,
    pub unknown: usize,
    /// Writes of unknown fate that the log shows happened.
    pub unknown_applied: usize,
    pub revisions: usize,
    pub kills: usize,
    pub partitions: usize,
    pub on_leader: usize,
}

/// Judges a run by its history and the log that each member showed at the end.
#[must_use]
pub fn judge(events: &[Event], logs: &[(String, Vec<LogEntry>)], minimums: &Minimums) -> (Verdict, Counts) {
    let mut counts = Counts::default();
    let operations = match pair(events) {
        Ok(operations) => operations,
        Err(reason) => return (Verdict::Invalid(vec![format!("the history is broken: {reason}")]), counts),
    };
    let mut reasons = Vec::new();
    if logs.is_empty() {
        reasons.push("no member showed its log".to_owned());
    }
    for operation in &operations {
        match operation.outcome {
            Outcome::Ok { .. } => counts.operations += 1,
            Outcome::Fail => counts.failed += 1,
            Outcome::Unknown => counts.unknown += 1,
        }
    }
    let mut violations = liveness(events);
    faults(events, &mut counts, &mut reasons);
    if !logs.is_empty() {
        match witness::check(&operations, logs) {
            Ok(report) => {
                counts.reads = report.reads;
                counts.writes = report.writes;
                counts.unknown_applied = report.unknown_applied;
                counts.revisions = report.revisions;
            }
            Err(found) => violations.extend(found),
        }
    }
    too_little(&counts, minimums, &mut reasons);
    let verdict = if !violations.is_empty() {
        Verdict::Fail(violations)
    } else if !reasons.is_empty() {
        Verdict::Invalid(reasons)
    } else {
        Verdict::Pass
    };
    (verdict, counts)
}

/// Once faults are over, every member must serve, and show its log.
fn liveness(events: &[Event]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut broken = |rule, sentence| violations.push(Violation { rule, sentence, operations: Vec::new() });
    for event in events.iter().filter(|event| event.process == Process::NEMESIS) {
        let node = event.node.as_deref().unwrap_or("a member");
        if event.f == Function::Recover {
            if let Some(silent) = event.value.get("silent").and_then(Value::as_array) {
                for name in silent.iter().filter_map(Value::as_str) {
                    broken("no recovery", format!("{name} does not serve after all faults were healed"));
                }
            }
            if let Some(status) = event.value.get("ended_by_itself").and_then(Value::as_str) {
                broken("member ended", format!("{node} ended by itself: {status}"));
            }
        }
        if let (Function::Audit, Some(error)) = (event.f, &event.error) {
            broken("no log", format!("{node} does not show its log from the first revision: {error}"));
        }
    }
    violations
}

fn faults(events: &[Event], counts: &mut Counts, reasons: &mut Vec<String>) {
    let done = events.iter().filter(|event| {
        event.process == Process::NEMESIS
            && event.kind == EventKind::Info
            && matches!(event.f, Function::Kill | Function::Partition)
    });
    for event in done {
        if event.value.get("witness").is_none_or(Value::is_null) {
            let node = event.node.as_deref().unwrap_or("nobody");
            reasons.push(format!("fault #{} ({:?} of {node}) left no witness", event.index, event.f));
            continue;
        }
        if event.f == Function::Kill {
            counts.kills += 1;
        } else {
            counts.partitions += 1;
        }
        if event.value.get("hit_leader").and_then(Value::as_bool) == Some(true) {
            counts.on_leader += 1;
        }
    }
}

fn too_little(counts: &Counts, minimums: &Minimums, reasons: &mut Vec<String>) {
    let pairs = [
        ("operations with a known outcome", counts.operations, minimums.operations),
        ("kills", counts.kills, minimums.kills),
        ("partitions", counts.partitions, minimums.partitions),
        ("faults on the leader", counts.on_leader, minimums.on_leader),
    ];
    for (what, done, wanted) in pairs {
        if done < wanted {
            reasons.push(format!("{done} {what}, at least {wanted} are needed"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::KeyState;

    const NOTHING: Minimums = Minimums { operations: 0, kills: 0, partitions: 0, on_leader: 0 };

    fn event(index: u64, kind: EventKind, process: Process, f: Function, value: Value) -> Event {
        let key = (process != Process::NEMESIS).then(|| "k".to_owned());
        let rev = (kind == EventKind::Ok).then_some(2);
        Event { index, time: index, kind, process, f, key, value, node: Some("n1".into()), rev, error: None }
    }

    fn nemesis(index: u64, f: Function, value: Value) -> Event {
        event(index, EventKind::Info, Process::NEMESIS, f, value)
    }

    fn one_write() -> Vec<Event> {
        let client = Process::Client(0);
        vec![
            event(0, EventKind::Invoke, client, Function::Write, json!({ "value": "a" })),
            event(1, EventKind::Ok, client, Function::Write, json!("written")),
        ]
    }

    fn logs() -> Vec<(String, Vec<LogEntry>)> {
        let state = KeyState { value: "a".into(), version: 1, create_revision: 2, mod_revision: 2 };
        vec![("n1".into(), vec![LogEntry { revision: 2, key: "k".into(), state: Some(state) }])]
    }

    fn verdict(events: &[Event], minimums: &Minimums) -> Verdict {
        judge(events, &logs(), minimums).0
    }

    #[test]
    fn a_run_that_did_enough_passes() {
        let mut events = one_write();
        events.push(nemesis(2, Function::Kill, json!({ "hit_leader": true, "witness": { "pid": 1 } })));
        let minimums = Minimums { operations: 1, kills: 1, partitions: 0, on_leader: 1 };
        assert_eq!(verdict(&events, &minimums), Verdict::Pass);
    }

    #[test]
    fn a_run_that_did_too_little_is_invalid() {
        for minimums in [
            Minimums { operations: 2, ..NOTHING },
            Minimums { kills: 1, ..NOTHING },
            Minimums { partitions: 1, ..NOTHING },
            Minimums { on_leader: 1, ..NOTHING },
        ] {
            assert!(matches!(verdict(&one_write(), &minimums), Verdict::Invalid(_)), "{minimums:?}");
        }
    }

    #[test]
    fn a_fault_without_witness_makes_a_run_invalid() {
        let mut events = one_write();
        events.push(nemesis(2, Function::Partition, json!({ "hit_leader": true, "witness": null })));
        let Verdict::Invalid(reasons) = verdict(&events, &NOTHING) else { panic!("not invalid") };
        assert!(reasons[0].contains("no witness"), "{reasons:?}");
    }

    #[test]
    fn a_run_without_logs_is_invalid() {
        assert!(matches!(judge(&one_write(), &[], &NOTHING).0, Verdict::Invalid(_)));
    }

    #[test]
    fn a_broken_history_is_invalid() {
        assert!(matches!(verdict(&one_write()[1..], &NOTHING), Verdict::Invalid(_)));
    }

    #[test]
    fn a_broken_promise_fails_even_a_run_that_did_too_little() {
        let minimums = Minimums { operations: 100, ..NOTHING };
        let mut events = one_write();
        events[1].rev = Some(3);
        assert!(matches!(verdict(&events, &minimums), Verdict::Fail(_)));
    }

    #[test]
    fn a_member_that_stays_silent_fails_the_run() {
        let mut events = one_write();
        events.push(nemesis(2, Function::Recover, json!({ "silent": ["n3"] })));
        let Verdict::Fail(violations) = verdict(&events, &NOTHING) else { panic!("not failed") };
        assert_eq!(violations[0].rule, "no recovery");
    }
}
