//! Logs of Jepsen's first etcd test, one register each, as Porcupine's tests read them.
//!
//! ```text
//! INFO  jepsen.util - 3  :invoke :cas [2 4]      :ok | :fail (did not match) | :info :timed-out
//! ```

use std::collections::BTreeMap;

use crate::check::linearizability::{Expected, Register, RegisterAnswer, RegisterCall, Timed};

/// Reads the operations of a log. Times are line numbers.
///
/// # Errors
/// Names the line that is not part of such a log.
pub fn parse(text: &str) -> anyhow::Result<Vec<Timed<Register>>> {
    let mut operations: Vec<Timed<Register>> = Vec::new();
    let mut open: BTreeMap<u32, usize> = BTreeMap::new();
    for (line, content) in (1_u64..).zip(text.lines()) {
        let broken = || anyhow::anyhow!("line {line} is not an operation of an etcd log");
        let event = Line::parse(content).ok_or_else(broken)?;
        if event.kind == ":invoke" {
            let call = call(event.function, event.value).ok_or_else(broken)?;
            open.insert(event.process, operations.len());
            operations.push(Timed { index: line, invoked_at: line, call, returned: None });
            continue;
        }
        let invoked = open.remove(&event.process).and_then(|number| operations.get_mut(number));
        let operation = invoked.ok_or_else(|| {
            anyhow::anyhow!(
                "line {line} completes an operation that process {} did not invoke",
                event.process
            )
        })?;
        match (event.kind, event.function, event.value) {
            (":info", ..) | (":fail", ":read", _) => {}
            (":ok", ":read", value) => {
                operation.returned = Some((line, RegisterAnswer::Read(value_of(value))));
            }
            (":ok", ":write", _) => operation.returned = Some((line, RegisterAnswer::Written)),
            (":ok", ":cas", _) => operation.returned = Some((line, RegisterAnswer::Swapped)),
            (":fail", ":cas", value) if value.starts_with('[') => {
                operation.returned = Some((line, RegisterAnswer::Refused));
            }
            _ => return Err(broken()),
        }
    }
    Ok(operations)
}

struct Line<'a> {
    process: u32,
    kind: &'a str,
    function: &'a str,
    value: &'a str,
}

impl<'a> Line<'a> {
    fn parse(content: &'a str) -> Option<Self> {
        let (_, event) = content.split_once("jepsen.util - ")?;
        let (process, rest) = event.split_once(char::is_whitespace)?;
        let (kind, rest) = rest.trim_start().split_once(char::is_whitespace)?;
        let (function, value) = rest.trim_start().split_once(char::is_whitespace)?;
        Some(Self { process: process.parse().ok()?, kind, function, value: value.trim() })
    }
}

fn call(function: &str, value: &str) -> Option<RegisterCall> {
    match function {
        ":read" => Some(RegisterCall::Read),
        ":write" => Some(RegisterCall::Write(value.to_owned())),
        ":cas" => {
            let (from, to) = value.strip_prefix('[')?.strip_suffix(']')?.split_once(' ')?;
            Some(RegisterCall::Cas { expected: Expected::Is(value_of(from)), value: to.to_owned() })
        }
        _ => None,
    }
}

fn value_of(text: &str) -> Option<String> {
    (text != "nil").then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_line_is_understood() {
        let text = "INFO  jepsen.util - 0\t:invoke\t:write\t4\n\
            INFO  jepsen.util - 1   :invoke :cas    [4 2]\n\
            INFO  jepsen.util - 0\t:ok\t:write\t4\n\
            INFO  jepsen.util - 2\t:invoke\t:read\tnil\n\
            INFO  jepsen.util - 1   :fail   :cas    [4 2]\n\
            INFO  jepsen.util - 2\t:ok\t:read\tnil\n\
            INFO  jepsen.util - 2\t:invoke\t:write\t7\n\
            INFO  jepsen.util - 2\t:info\t:write\t:timed-out\n";
        let operations = parse(text).unwrap();
        let shown: Vec<String> = operations.iter().map(Timed::name).collect();
        assert_eq!(
            shown,
            [
                "#1 (write 4)",
                "#2 (cas from 4 to 2, refused)",
                "#4 (read nothing)",
                "#7 (write 7, fate unknown)"
            ]
        );
        assert_eq!(operations[1].returned.as_ref().map(|(at, _)| *at), Some(5));
    }

    #[test]
    fn a_line_that_does_not_belong_is_named() {
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(error("hello"), "line 1 is not an operation of an etcd log");
        assert_eq!(
            error("INFO  jepsen.util - 5\t:ok\t:write\t4"),
            "line 1 completes an operation that process 5 did not invoke"
        );
    }
}
