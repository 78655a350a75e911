//! From everything a run recorded to its verdict.
//!
//! Every checker that applies is asked. A broken promise is a failure however short the run was. Without one, the run passes
//! only if it did enough: operations, an opinion of each checker that its workload names, each kind of fault that was asked
//! for, a witness of each fault, the leader among those hit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::linearizability::Limits;
use super::opinions::{Opinion, opinions};
use super::{Record, Verdict, Violation};
use crate::history::{Event, EventKind, Fault, FaultKind, Function, Phase, Process};

/// What a run must have done to prove anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minimums {
    /// Operations with a known outcome.
    pub operations: usize,
    /// Faults of each kind that was asked for.
    pub faults: BTreeMap<FaultKind, usize>,
    /// Faults that hit the leader.
    pub on_leader: usize,
    /// Checkers that must have had something to judge.
    #[serde(default)]
    pub checkers: Vec<String>,
}

/// What a run did, for the report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// With a known outcome.
    pub operations: usize,
    pub failed: usize,
    pub unknown: usize,
    /// Faults of each kind that left a witness.
    pub faults: BTreeMap<FaultKind, usize>,
    pub on_leader: usize,
}

/// What comes of judging a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub verdict: Verdict,
    pub counts: Counts,
    /// What each checker says that applies.
    pub opinions: Vec<Opinion>,
}

/// Judges a run by everything it recorded.
#[must_use]
pub fn judge(record: &Record, minimums: &Minimums) -> Judgement {
    judge_within(record, minimums, Limits::default())
}

/// Judges a run with bounds of its own on what checkers that search may do.
#[must_use]
pub fn judge_within(record: &Record, minimums: &Minimums, limits: Limits) -> Judgement {
    let mut counts = Counts::default();
    operations(&record.events, &mut counts);
    let mut reasons = Vec::new();
    if record.logs.is_empty() {
        reasons.push("no member showed its log".to_owned());
    }
    let mut violations = liveness(&record.events);
    faults(&record.events, &mut counts, &mut reasons);
    let opinions = opinions(record, limits).unwrap_or_else(|reason| {
        reasons.push(format!("the history is broken: {reason}"));
        Vec::new()
    });
    for opinion in &opinions {
        violations.extend(opinion.violations.iter().cloned());
        reasons.extend(opinion.unknown.iter().map(|unknown| format!("{}: {unknown}", opinion.checker)));
    }
    for name in &minimums.checkers {
        if !opinions.iter().any(|opinion| opinion.checker == name) {
            reasons.push(format!("the checker {name} found nothing to judge"));
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
    Judgement { verdict, counts, opinions }
}

/// Counts how the operations of clients ended.
fn operations(events: &[Event], counts: &mut Counts) {
    // What a watch shows answers nobody, and what the harness looks at either.
    let of_clients = |event: &&Event| {
        event.process != Process::NEMESIS
            && !matches!(event.f, Function::Notice | Function::Inform | Function::Containers)
    };
    for event in events.iter().filter(of_clients) {
        match event.kind {
            // Unknown until it completes.
            EventKind::Invoke => counts.unknown += 1,
            EventKind::Ok => counts.operations += 1,
            EventKind::Fail => counts.failed += 1,
            EventKind::Info => {}
        }
    }
    counts.unknown = counts.unknown.saturating_sub(counts.operations + counts.failed);
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
    for event in events {
        let Some((kind, fault)) = Fault::of(event) else {
            if matches!(event.f, Function::Fault(_)) {
                reasons.push(format!("event #{} is not what a fault looks like", event.index));
            }
            continue;
        };
        if fault.phase != Phase::Witness {
            continue;
        }
        if fault.witness.is_null() {
            let hit = fault.members.join(", ");
            reasons.push(format!("fault #{} ({kind} of {hit}) left no witness", event.index));
            continue;
        }
        *counts.faults.entry(kind).or_default() += 1;
        counts.on_leader += usize::from(fault.hit_leader);
    }
}

fn too_little(counts: &Counts, minimums: &Minimums, reasons: &mut Vec<String>) {
    let mut demand = |what: &str, done, wanted| {
        if done < wanted {
            reasons.push(format!("{done} {what}, at least {wanted} are needed"));
        }
    };
    demand("operations with a known outcome", counts.operations, minimums.operations);
    for (kind, wanted) in &minimums.faults {
        let done = counts.faults.get(kind).copied().unwrap_or(0);
        demand(&format!("faults of the kind {kind}"), done, *wanted);
    }
    demand("faults on the leader", counts.on_leader, minimums.on_leader);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::witness::LogEntry;
    use crate::history::KeyState;

    const NOTHING: Minimums =
        Minimums { operations: 0, faults: BTreeMap::new(), on_leader: 0, checkers: Vec::new() };

    fn event(index: u64, kind: EventKind, process: Process, f: Function, value: Value) -> Event {
        let key = (process != Process::NEMESIS).then(|| "k".to_owned());
        let rev = (kind == EventKind::Ok).then_some(2);
        Event { index, time: index, kind, process, f, key, value, node: Some("n1".into()), rev, error: None }
    }

    fn nemesis(index: u64, f: Function, value: Value) -> Event {
        event(index, EventKind::Info, Process::NEMESIS, f, value)
    }

    fn fault(index: u64, kind: FaultKind, witness: Value) -> Event {
        let fault = Fault {
            fault: 0,
            phase: Phase::Witness,
            members: vec!["n1".into()],
            leader: Some("n1".into()),
            hit_leader: true,
            plan: Value::Null,
            witness,
            ended: Vec::new(),
        };
        nemesis(index, Function::Fault(kind), json!(fault))
    }

    fn faults(kind: FaultKind) -> BTreeMap<FaultKind, usize> {
        BTreeMap::from([(kind, 1)])
    }

    fn one_write() -> Vec<Event> {
        let client = Process::Client(0);
        vec![
            event(0, EventKind::Invoke, client, Function::Write, json!({ "value": "a" })),
            event(1, EventKind::Ok, client, Function::Write, json!("written")),
        ]
    }

    fn logs() -> Vec<(String, Vec<LogEntry>)> {
        let state = KeyState { value: "a".into(), version: 1, create_revision: 2, mod_revision: 2, lease: 0 };
        vec![("n1".into(), vec![LogEntry { revision: 2, key: "k".into(), state: Some(state) }])]
    }

    fn verdict(events: &[Event], minimums: &Minimums) -> Verdict {
        judge(&Record { events: events.to_vec(), logs: logs(), live: Vec::new() }, minimums).verdict
    }

    #[test]
    fn a_run_that_did_enough_passes() {
        let mut events = one_write();
        events.push(fault(2, FaultKind::Kill, json!({ "pid": 1 })));
        let minimums = Minimums { operations: 1, faults: faults(FaultKind::Kill), on_leader: 1, ..NOTHING };
        assert_eq!(verdict(&events, &minimums), Verdict::Pass);
    }

    #[test]
    fn a_run_that_did_too_little_is_invalid() {
        for minimums in [
            Minimums { operations: 2, ..NOTHING },
            Minimums { faults: faults(FaultKind::Kill), ..NOTHING },
            Minimums { on_leader: 1, ..NOTHING },
        ] {
            assert!(matches!(verdict(&one_write(), &minimums), Verdict::Invalid(_)), "{minimums:?}");
        }
    }

    #[test]
    fn a_fault_without_witness_makes_a_run_invalid() {
        let mut events = one_write();
        events.push(fault(2, FaultKind::Partition, Value::Null));
        let Verdict::Invalid(reasons) = verdict(&events, &NOTHING) else { panic!("not invalid") };
        assert!(reasons[0].contains("no witness"), "{reasons:?}");
    }

    #[test]
    fn one_kind_of_fault_does_not_stand_for_another() {
        let mut events = one_write();
        events.push(fault(2, FaultKind::Kill, json!({ "pid": 1 })));
        let minimums = Minimums { faults: faults(FaultKind::Partition), ..NOTHING };
        let Verdict::Invalid(reasons) = verdict(&events, &minimums) else { panic!("not invalid") };
        assert_eq!(reasons, ["0 faults of the kind partition, at least 1 are needed"]);
    }

    #[test]
    fn a_fault_of_another_shape_makes_a_run_invalid() {
        let mut events = one_write();
        events.push(nemesis(2, Function::Fault(FaultKind::Kill), json!({ "witness": { "pid": 1 } })));
        assert!(matches!(verdict(&events, &NOTHING), Verdict::Invalid(_)));
    }

    #[test]
    fn a_member_that_its_fault_felled_is_no_failure_and_any_other_is() {
        let mut events = one_write();
        let mut end = fault(2, FaultKind::FailingSync, Value::Null);
        end.value["phase"] = json!(Phase::End);
        end.value["ended"] = json!([["n1", "exit status: 1"]]);
        events.push(end);
        assert_eq!(verdict(&events, &NOTHING), Verdict::Pass);
        events.push(nemesis(3, Function::Recover, json!({ "ended_by_itself": "exit status: 1" })));
        let Verdict::Fail(violations) = verdict(&events, &NOTHING) else { panic!("not failed") };
        assert_eq!(violations[0].rule, "member ended");
    }

    #[test]
    fn a_run_without_logs_is_invalid() {
        let record = Record::of_events(one_write());
        assert!(matches!(judge(&record, &NOTHING).verdict, Verdict::Invalid(_)));
    }

    #[test]
    fn a_checker_of_the_workload_that_saw_nothing_makes_a_run_invalid() {
        let needs = |name: &str| Minimums { checkers: vec![name.to_owned()], ..NOTHING };
        assert_eq!(verdict(&one_write(), &needs("witness")), Verdict::Pass);
        let Verdict::Invalid(reasons) = verdict(&one_write(), &needs("list-append")) else {
            panic!("not invalid")
        };
        assert!(reasons[0].contains("list-append found nothing"), "{reasons:?}");
    }

    #[test]
    fn every_checker_judges_a_run() {
        let record = Record { events: one_write(), logs: logs(), live: Vec::new() };
        let opinions = judge(&record, &NOTHING).opinions;
        let checkers: Vec<&str> = opinions.iter().map(|opinion| opinion.checker).collect();
        assert_eq!(checkers, ["witness", "linearizability", "convergence"]);
    }

    #[test]
    fn operations_are_counted_by_their_end() {
        let client = Process::Client;
        let read = |index, kind, process| event(index, kind, client(process), Function::Read, Value::Null);
        let events = [
            read(0, EventKind::Invoke, 0),
            read(1, EventKind::Invoke, 1),
            read(2, EventKind::Invoke, 2),
            read(3, EventKind::Invoke, 3),
            read(4, EventKind::Ok, 0),
            read(5, EventKind::Fail, 1),
            read(6, EventKind::Info, 2),
            event(7, EventKind::Ok, client(4), Function::Notice, Value::Null),
        ];
        let mut counts = Counts::default();
        operations(&events, &mut counts);
        assert_eq!((counts.operations, counts.failed, counts.unknown), (1, 1, 2));
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
