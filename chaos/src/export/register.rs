//! One register: the log of Jepsen's etcd test that Porcupine's tests read, and the EDN maps that Knossos reads.
//!
//! What refused a compare-and-swap is left out: both formats only say that it failed.

use std::collections::BTreeMap;

use super::{ExportError, Register};
use crate::check::linearizability::{Expected, RegisterAnswer, RegisterCall, Timed};
use crate::history::Event;

type Operation = Timed<crate::check::linearizability::Register>;

/// Number of an empty register, where a format cannot say nil.
const NOTHING: &str = "0";

/// Returns one register as a log of Jepsen's etcd test. Its compare-and-swap cannot say nil, so that an empty register holds 0,
/// which a process of its own writes first.
///
/// # Errors
/// See [`ExportError`].
pub fn porcupine(events: &[Event], key: Option<&str>) -> Result<String, ExportError> {
    let register = Register::choose(events, key)?;
    let line = |process: u32, kind: &str, function: &str, value: &str| {
        format!("INFO  jepsen.util - {process}\t:{kind}\t:{function}\t{value}\n")
    };
    let first = register.processes.values().max().map_or(0, |process| process.saturating_add(1));
    let mut text = line(first, "invoke", "write", NOTHING) + &line(first, "ok", "write", NOTHING);
    for Moment { process, kind, function, value } in moments(&register, NOTHING)? {
        // The log's readers know only the words that the test used.
        let (kind, value) = match (kind, function) {
            ("info", "read") => ("fail", ":timed-out".to_owned()),
            ("info", _) => ("info", ":timed-out".to_owned()),
            ("invoke", "read") => ("invoke", "nil".to_owned()),
            _ => (kind, value),
        };
        text += &line(process, kind, function, &value);
    }
    Ok(text)
}

/// Returns one register as EDN, for Knossos' cas-register.
///
/// # Errors
/// See [`ExportError`].
pub fn knossos(events: &[Event], key: Option<&str>) -> Result<String, ExportError> {
    let register = Register::choose(events, key)?;
    let moments = moments(&register, "nil")?;
    let lines = moments.into_iter().map(|Moment { process, kind, function, value }| {
        format!("{{:process {process}, :type :{kind}, :f :{function}, :value {value}}}\n")
    });
    Ok(lines.collect())
}

/// One event in the words that both formats share.
struct Moment {
    process: u32,
    kind: &'static str,
    function: &'static str,
    value: String,
}

fn moments(register: &Register, nothing: &str) -> Result<Vec<Moment>, ExportError> {
    let mut numbers = Numbers { numbers: BTreeMap::new(), nothing };
    let mut moments: Vec<((u64, bool), Moment)> = Vec::new();
    for operation in &register.operations {
        let process = register.processes.get(&operation.index).copied().unwrap_or_default();
        let (function, asked) = asked(operation, &mut numbers)?;
        let (kind, answered) = answered(operation, &asked, &mut numbers);
        let invoked = Moment { process, kind: "invoke", function, value: asked };
        moments.push(((operation.invoked_at, false), invoked));
        let returned_at = operation.returned.as_ref().map_or(u64::MAX, |(at, _)| *at);
        moments.push(((returned_at, true), Moment { process, kind, function, value: answered }));
    }
    // At one time invocations come first, as in our search.
    moments.sort_by_key(|(at, _)| *at);
    Ok(moments.into_iter().map(|(_, moment)| moment).collect())
}

fn asked(operation: &Operation, numbers: &mut Numbers<'_>) -> Result<(&'static str, String), ExportError> {
    match &operation.call {
        RegisterCall::Read => Ok(("read", "nil".to_owned())),
        RegisterCall::Write(value) => Ok(("write", numbers.of(Some(value)))),
        RegisterCall::Cas { expected: Expected::Is(expected), value } => {
            let from = numbers.of(expected.as_ref());
            Ok(("cas", format!("[{from} {}]", numbers.of(Some(value)))))
        }
        RegisterCall::Cas { expected: Expected::Unseen, .. } => {
            Err(ExportError::Unseen { index: operation.index })
        }
    }
}

fn answered(operation: &Operation, asked: &str, numbers: &mut Numbers<'_>) -> (&'static str, String) {
    match operation.answer() {
        None => ("info", asked.to_owned()),
        Some(RegisterAnswer::Read(seen)) => ("ok", numbers.of(seen.as_ref())),
        Some(RegisterAnswer::Written | RegisterAnswer::Swapped) => ("ok", asked.to_owned()),
        Some(RegisterAnswer::Refused | RegisterAnswer::RefusedBy(_)) => ("fail", asked.to_owned()),
    }
}

/// Numbers of values, from 1.
struct Numbers<'a> {
    numbers: BTreeMap<String, usize>,
    nothing: &'a str,
}

impl Numbers<'_> {
    fn of(&mut self, value: Option<&String>) -> String {
        let Some(value) = value else { return self.nothing.to_owned() };
        let next = self.numbers.len() + 1;
        self.numbers.entry(value.clone()).or_insert(next).to_string()
    }
}
