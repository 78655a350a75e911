//! Transactions as EDN maps, for Elle's list-append checker (elle-cli `--model list-append`).

use std::collections::BTreeMap;

use super::ExportError;
use crate::history::{Event, EventKind, Function, Process, transactions};

use serde_json::Value;

/// Returns all transactions of a history.
///
/// # Errors
/// See [`ExportError`].
pub fn elle(events: &[Event]) -> Result<String, ExportError> {
    if transactions(events).map_err(ExportError::Broken)?.is_empty() {
        return Err(ExportError::NoTransactions);
    }
    let mut open: BTreeMap<u32, &Value> = BTreeMap::new();
    let mut text = String::new();
    for event in events.iter().filter(|event| event.f == Function::Txn) {
        let Process::Client(process) = event.process else { continue };
        let asked = open.remove(&process);
        let kind = match event.kind {
            EventKind::Invoke => "invoke",
            EventKind::Ok => "ok",
            EventKind::Fail => "fail",
            EventKind::Info => "info",
        };
        if event.kind == EventKind::Invoke {
            open.insert(process, &event.value);
        }
        // What did not commit says again what was asked.
        let value = if event.kind == EventKind::Ok { &event.value } else { asked.unwrap_or(&event.value) };
        let steps: Vec<String> = value.as_array().into_iter().flatten().map(step).collect();
        text += &format!(
            "{{:index {}, :time {}, :type :{kind}, :process {process}, :f :txn, :value [{}]}}\n",
            event.index,
            event.time,
            steps.join(" ")
        );
    }
    Ok(text)
}

/// A step of a transaction that was read before: names become keywords, the rest is the same in JSON.
fn step(step: &Value) -> String {
    let part = |number: usize| step.get(number).unwrap_or(&Value::Null);
    let argument = match part(2) {
        Value::Null => "nil".to_owned(),
        Value::Array(list) => {
            let elements: Vec<String> = list.iter().map(ToString::to_string).collect();
            format!("[{}]", elements.join(" "))
        }
        other => other.to_string(),
    };
    format!("[:{} {} {argument}]", part(0).as_str().unwrap_or_default(), part(1))
}
