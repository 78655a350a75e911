//! Transactions of the list-append workload: reads and appends of several lists in one.

use serde_json::Value;

use super::paired::paired;
use super::{Event, EventKind, Function};

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Elements are unique among all appends to a key, so an element read names the append that made it.
    Append { key: String, element: i64 },
    /// The whole list; `None` while no answer shows it.
    Read { key: String, list: Option<Vec<i64>> },
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Committed {
        returned_at: u64,
    },
    /// Provably did not happen.
    Aborted,
    /// Also a transaction without a completion.
    Unknown,
}

/// One transaction of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Index of the invocation.
    pub index: u64,
    pub invoked_at: u64,
    /// With the lists read, when it committed.
    pub steps: Vec<Step>,
    pub end: End,
}

/// Pairs invocations of transactions with completions. A process has at most one open at a time.
///
/// # Errors
/// A sentence saying which event breaks the format.
pub fn transactions(events: &[Event]) -> Result<Vec<Transaction>, String> {
    let mut transactions = Vec::new();
    for (asked, ended) in paired(events.iter().filter(|event| event.f == Function::Txn))? {
        let (index, invoked_at) = (asked.index, asked.time);
        let mut transaction = Transaction { index, invoked_at, steps: steps(asked)?, end: End::Unknown };
        match ended.map(|ended| (ended, ended.kind)) {
            Some((ended, EventKind::Ok)) => complete(&mut transaction, ended)?,
            Some((_, EventKind::Fail)) => transaction.end = End::Aborted,
            Some((_, EventKind::Info | EventKind::Invoke)) | None => {}
        }
        transactions.push(transaction);
    }
    Ok(transactions)
}

fn complete(transaction: &mut Transaction, event: &Event) -> Result<(), String> {
    let answered = steps(event)?;
    let is_the_same = answered.len() == transaction.steps.len()
        && answered.iter().zip(&transaction.steps).all(|(answer, asked)| match (answer, asked) {
            (Step::Append { .. }, Step::Append { .. }) => answer == asked,
            (Step::Read { key, list }, Step::Read { key: asked, .. }) => key == asked && list.is_some(),
            (Step::Append { .. }, Step::Read { .. }) | (Step::Read { .. }, Step::Append { .. }) => false,
        });
    if !is_the_same {
        return Err(format!(
            "event {}: the answer is not one to transaction {}",
            event.index, transaction.index
        ));
    }
    transaction.steps = answered;
    transaction.end = End::Committed { returned_at: event.time };
    Ok(())
}

fn steps(event: &Event) -> Result<Vec<Step>, String> {
    let steps = event.value.as_array().and_then(|steps| steps.iter().map(step).collect());
    steps.ok_or_else(|| {
        format!(
            "event {}: a transaction is a list of [\"append\", key, number] and [\"r\", key, null or numbers]",
            event.index
        )
    })
}

fn step(value: &Value) -> Option<Step> {
    let [function, key, argument] = value.as_array()?.as_slice() else { return None };
    let key = key.as_str()?.to_owned();
    match function.as_str()? {
        "append" => Some(Step::Append { key, element: argument.as_i64()? }),
        "r" if argument.is_null() => Some(Step::Read { key, list: None }),
        "r" => {
            let list: Option<Vec<i64>> = argument.as_array()?.iter().map(Value::as_i64).collect();
            Some(Step::Read { key, list: Some(list?) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::Process;

    fn event(index: u64, kind: EventKind, process: u32, value: Value) -> Event {
        let process = Process::Client(process);
        let (key, node, rev, error) = (None, None, None, None);
        Event { index, time: index, kind, process, f: Function::Txn, key, value, node, rev, error }
    }

    #[test]
    fn each_way_to_end_is_understood() {
        let asked = json!([["append", "x", 1], ["r", "y", null]]);
        let events = [
            event(0, EventKind::Invoke, 0, asked.clone()),
            event(1, EventKind::Invoke, 1, json!([["append", "x", 2]])),
            event(2, EventKind::Ok, 0, json!([["append", "x", 1], ["r", "y", [3]]])),
            event(3, EventKind::Fail, 1, Value::Null),
            event(4, EventKind::Invoke, 2, asked.clone()),
            event(5, EventKind::Info, 2, Value::Null),
            event(6, EventKind::Invoke, 3, asked),
        ];
        let transactions = transactions(&events).unwrap();
        let ends: Vec<End> = transactions.iter().map(|transaction| transaction.end).collect();
        assert_eq!(ends, [End::Committed { returned_at: 2 }, End::Aborted, End::Unknown, End::Unknown]);
        let read = |list| Step::Read { key: "y".to_owned(), list };
        assert_eq!(transactions[0].steps[1], read(Some(vec![3])));
        assert_eq!(transactions[2].steps[1], read(None));
    }

    #[test]
    fn what_is_no_transaction_is_named() {
        let error = |events: &[Event]| transactions(events).unwrap_err();
        let asked = event(0, EventKind::Invoke, 0, json!([["append", "x", 1], ["r", "y", null]]));
        assert!(
            error(&[event(0, EventKind::Invoke, 0, json!([["w", "x", 1]]))]).contains("a transaction is")
        );
        assert!(error(&[asked.clone(), asked.clone()]).contains("still has operation 0 open"));
        assert!(error(&[event(1, EventKind::Ok, 0, json!([]))]).contains("was not invoked"));
        for answer in [json!([["append", "x", 1]]), json!([["append", "x", 1], ["r", "y", null]])] {
            let answered = event(1, EventKind::Ok, 0, answer);
            assert!(error(&[asked.clone(), answered]).contains("not one to transaction 0"));
        }
    }
}
