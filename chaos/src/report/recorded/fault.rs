//! Faults: from the moment one was asked for to the last that was said of it.
//!
//! An invocation begins a fault; later events of the same name and number bring its witness and its end. A harness that gives no numbers has
//! one fault of a name at a time.

use serde_json::Value;

use super::{Line, Recorded, Remark};
use crate::history::EventKind;

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Index of the event that asked for it.
    pub index: u64,
    pub kind: String,
    /// Its number in the run's plan.
    pub number: Option<u64>,
    /// Whom it hits.
    pub node: String,
    pub began: u64,
    pub ended: u64,
    /// What shows that it happened, as JSON.
    pub witness: Option<String>,
    pub is_on_leader: bool,
    /// What was drawn for it, as JSON.
    pub plan: String,
}

/// Who led when somebody looked; `None` when nobody did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sighting {
    pub time: u64,
    pub leader: Option<String>,
}

/// Events that are no faults.
const REMARKS: [&str; 2] = ["recover", "audit"];

/// Reads what the nemesis recorded.
pub(super) fn read(lines: &[Line<'_>], recorded: &mut Recorded) {
    for line in lines {
        let value: Value =
            line.value.and_then(|value| serde_json::from_str(value.get()).ok()).unwrap_or_default();
        if REMARKS.contains(&line.f.as_str()) {
            recorded.remarks.push(remark(line));
            continue;
        }
        // Between beginning and end nobody looked anew.
        if line.kind == EventKind::Invoke || value.get("phase").and_then(Value::as_str) == Some("end") {
            recorded.leaders.extend(sighting(line, &value));
        }
        if line.kind == EventKind::Invoke {
            recorded.faults.push(fault(line, &value));
        } else {
            go_on(line, &value, &mut recorded.faults);
        }
    }
}

fn number(value: &Value) -> Option<u64> {
    value.get("fault").and_then(Value::as_u64)
}

fn sighting(line: &Line<'_>, value: &Value) -> Option<Sighting> {
    let leader = value.get("leader")?.as_str().map(ToOwned::to_owned);
    Some(Sighting { time: line.time, leader })
}

fn remark(line: &Line<'_>) -> Remark {
    let value = line.value.map(|value| value.get().to_owned()).unwrap_or_default();
    let parts = [line.node.clone().unwrap_or_default(), value, line.error.clone().unwrap_or_default()];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    Remark { time: line.time, f: line.f.clone(), text: parts.join(" ") }
}

fn fault(line: &Line<'_>, value: &Value) -> Fault {
    let members = value.get("members").and_then(Value::as_array);
    let members: Vec<&str> = members.into_iter().flatten().filter_map(Value::as_str).collect();
    Fault {
        index: line.index,
        kind: line.f.clone(),
        number: number(value),
        node: if members.is_empty() { line.node.clone().unwrap_or_default() } else { members.join(" ") },
        began: line.time,
        ended: line.time,
        witness: None,
        is_on_leader: value.get("hit_leader").and_then(Value::as_bool) == Some(true),
        plan: value.get("plan").map(Value::to_string).unwrap_or_default(),
    }
}

/// Takes the witness and the end from a later event.
fn go_on(line: &Line<'_>, value: &Value, faults: &mut [Fault]) {
    let number = number(value);
    let newest = faults.iter_mut().rev().find(|fault| fault.kind == line.f && fault.number == number);
    if let Some(fault) = newest {
        fault.ended = line.time;
        let witness = value.get("witness").filter(|witness| !witness.is_null()).map(Value::to_string);
        fault.witness = witness.or(fault.witness.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::recorded::Texts;

    fn read(lines: &[&str]) -> Recorded {
        let texts = Texts { history: lines.join("\n"), ..Texts::default() };
        Recorded::read(&texts)
    }

    #[test]
    fn a_fault_lasts_until_its_end_and_keeps_its_witness() {
        let run = read(&[
            r#"{"index":0,"time":10,"type":"invoke","process":"nemesis","f":"kill","value":{"fault":0,"phase":"begin","members":["n1","n2"],"leader":"n1","hit_leader":true}}"#,
            r#"{"index":1,"time":11,"type":"info","process":"nemesis","f":"kill","value":{"fault":0,"phase":"witness","leader":"n1","witness":{"pid":7}}}"#,
            r#"{"index":2,"time":20,"type":"info","process":"nemesis","f":"kill","value":{"fault":0,"phase":"end","leader":"n2"}}"#,
            r#"{"index":6,"time":50,"type":"info","process":"nemesis","f":"recover","value":{"silent":[]}}"#,
        ]);
        let fault = &run.faults[0];
        assert_eq!((fault.began, fault.ended, fault.node.as_str()), (10, 20, "n1 n2"));
        assert_eq!((fault.witness.as_deref(), fault.is_on_leader), (Some(r#"{"pid":7}"#), true));
        let leaders: Vec<_> = run.leaders.iter().map(|look| (look.time, look.leader.as_deref())).collect();
        assert_eq!(leaders, [(10, Some("n1")), (20, Some("n2"))]);
        assert_eq!(run.remarks.len(), 1);
    }

    #[test]
    fn faults_that_overlap_are_told_apart_by_their_number() {
        let run = read(&[
            r#"{"index":0,"time":1,"type":"invoke","process":"nemesis","f":"pause","value":{"fault":0}}"#,
            r#"{"index":1,"time":2,"type":"invoke","process":"nemesis","f":"kill","value":{"fault":0}}"#,
            r#"{"index":2,"time":3,"type":"invoke","process":"nemesis","f":"pause","value":{"fault":1}}"#,
            r#"{"index":3,"time":8,"type":"info","process":"nemesis","f":"pause","value":{"fault":0}}"#,
            r#"{"index":4,"time":9,"type":"info","process":"nemesis","f":"kill","value":{"fault":0}}"#,
            r#"{"index":5,"time":9,"type":"info","process":"nemesis","f":"pause","value":{"fault":1,"witness":1}}"#,
        ]);
        let ends: Vec<_> = run.faults.iter().map(|fault| (fault.kind.as_str(), fault.ended)).collect();
        assert_eq!(ends, [("pause", 8), ("kill", 9), ("pause", 9)]);
        assert!(run.faults[0].witness.is_none() && run.faults[2].witness.is_some());
    }
}
