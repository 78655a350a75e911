//! Histories of a key-value store with append, as Porcupine's tests read them: one event on a line.
//!
//! ```text
//! {:process 9, :type :invoke, :f :append, :key "0", :value "x 9 0 y"}
//! ```

use std::collections::BTreeMap;

use crate::check::linearizability::{Text, TextAnswer, TextCall, Timed};

/// Reads the operations of each key. Times are line numbers.
///
/// # Errors
/// Names the line that is not part of such a history.
pub fn parse(text: &str) -> anyhow::Result<BTreeMap<String, Vec<Timed<Text>>>> {
    let mut keys: BTreeMap<String, Vec<Timed<Text>>> = BTreeMap::new();
    let mut open: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    for (line, content) in (1_u64..).zip(text.lines()) {
        let broken = || anyhow::anyhow!("line {line} is not an event of a key-value history");
        let event = Line::parse(content).ok_or_else(broken)?;
        if event.kind == ":invoke" {
            let call = call(&event).ok_or_else(broken)?;
            let operations = keys.entry(event.key.to_owned()).or_default();
            open.insert(event.process, (event.key, operations.len()));
            operations.push(Timed { index: line, invoked_at: line, call, returned: None });
            continue;
        }
        let invoked = open.remove(event.process);
        let operation = invoked.and_then(|(key, number)| keys.get_mut(key)?.get_mut(number));
        let operation = operation.ok_or_else(|| {
            anyhow::anyhow!(
                "line {line} completes an operation that process {} did not invoke",
                event.process
            )
        })?;
        let answer = match (event.kind, event.function) {
            (":ok", ":get") => TextAnswer::Got(event.value.unwrap_or_default().to_owned()),
            (":ok", ":put" | ":append") => TextAnswer::Done,
            _ => return Err(broken()),
        };
        operation.returned = Some((line, answer));
    }
    Ok(keys)
}

struct Line<'a> {
    process: &'a str,
    kind: &'a str,
    function: &'a str,
    key: &'a str,
    /// `None` is nil.
    value: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn parse(content: &'a str) -> Option<Self> {
        let rest = content.strip_prefix("{:process ")?.strip_suffix('}')?;
        let (process, rest) = rest.split_once(", :type ")?;
        let (kind, rest) = rest.split_once(", :f ")?;
        let (function, rest) = rest.split_once(", :key ")?;
        let (key, value) = rest.split_once(", :value ")?;
        let value = if value == "nil" { None } else { Some(quoted(value)?) };
        Some(Self { process, kind, function, key: quoted(key)?, value })
    }
}

/// The text between two quotation marks; escapes do not occur in these files.
fn quoted(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    (!inner.contains(['"', '\\'])).then_some(inner)
}

fn call(event: &Line<'_>) -> Option<TextCall> {
    match (event.function, event.value) {
        (":get", None) => Some(TextCall::Get),
        (":put", Some(text)) => Some(TextCall::Put(text.to_owned())),
        (":append", Some(more)) => Some(TextCall::Append(more.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_line_is_understood() {
        let text = "{:process 9, :type :invoke, :f :append, :key \"0\", :value \"x 9 0 y\"}\n\
            {:process 2, :type :invoke, :f :get, :key \"0\", :value nil}\n\
            {:process 2, :type :ok, :f :get, :key \"0\", :value \"\"}\n\
            {:process 9, :type :ok, :f :append, :key \"0\", :value \"x 9 0 y\"}\n\
            {:process 1, :type :invoke, :f :put, :key \"7\", :value \"a\"}\n";
        let keys = parse(text).unwrap();
        let names = |key: &str| keys[key].iter().map(Timed::name).collect::<Vec<_>>();
        assert_eq!(names("0"), ["#1 (append \"x 9 0 y\")", "#2 (get \"\")"]);
        assert_eq!(names("7"), ["#5 (put \"a\", fate unknown)"]);
    }

    #[test]
    fn a_line_that_does_not_belong_is_named() {
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(error("{:process 9}"), "line 1 is not an event of a key-value history");
        let unasked = "{:process 9, :type :ok, :f :put, :key \"0\", :value \"a\"}";
        assert_eq!(error(unasked), "line 1 completes an operation that process 9 did not invoke");
    }
}
