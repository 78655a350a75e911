//! Operations: an invocation with whatever completed it.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::Line;
use crate::history::{EventKind, Process};

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    /// Index of the invocation.
    pub index: u64,
    pub process: u32,
    /// What it is called on the page.
    pub f: String,
    /// What the history calls it.
    called: String,
    pub key: Option<String>,
    /// Arguments, as JSON.
    pub asked: String,
    /// Answer, as JSON.
    pub answered: String,
    pub node: Option<String>,
    pub revision: Option<i64>,
    pub error: Option<String>,
    pub invoked_at: u64,
    /// When it was answered or given up.
    pub ended_at: u64,
    /// `Invoke` while nothing completed it.
    pub end: EventKind,
}

impl Operation {
    /// Returns a read of a member that lasted five nanoseconds.
    #[cfg(test)]
    pub(crate) fn example(index: u64, process: u32, node: &str) -> Self {
        Self {
            index,
            process,
            f: "read".to_owned(),
            called: "read".to_owned(),
            key: None,
            asked: String::new(),
            answered: String::new(),
            node: Some(node.to_owned()),
            revision: None,
            error: None,
            invoked_at: index * 10,
            ended_at: index * 10 + 5,
            end: EventKind::Ok,
        }
    }

    /// Returns how long it took, in nanoseconds.
    pub(crate) fn latency(&self) -> u64 {
        self.ended_at.saturating_sub(self.invoked_at)
    }

    /// Returns its end in one word.
    pub(crate) fn outcome(&self) -> &'static str {
        match self.end {
            EventKind::Ok => "ok",
            EventKind::Fail => "fail",
            EventKind::Info | EventKind::Invoke => "info",
        }
    }
}

/// What clients recorded.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Paired {
    pub operations: Vec<Operation>,
    /// What came without being asked for at that moment, such as the responses of a watch.
    pub notices: Vec<Operation>,
}

/// Pairs the lines of clients, by invocation.
pub(super) fn pair(lines: Vec<Line<'_>>) -> Paired {
    let end = lines.last().map_or(0, |line| line.time);
    let mut open: BTreeMap<u32, Operation> = BTreeMap::new();
    let mut paired = Paired::default();
    for line in lines {
        let Process::Client(process) = line.process else { continue };
        if line.kind == EventKind::Invoke {
            paired.operations.extend(open.insert(process, operation(line, process, end)));
            continue;
        }
        match open.remove(&process) {
            // What ends in another way than well ends what was asked for, whatever it is called.
            Some(asked) if asked.called == line.f || line.kind != EventKind::Ok => {
                paired.operations.push(complete(asked, line))
            }
            other => {
                open.extend(other.map(|asked| (process, asked)));
                let time = line.time;
                let (index, kind, revision) = (line.index, line.kind, line.rev);
                let answered = line.value.map(|value| value.get().to_owned()).unwrap_or_default();
                let error = line.error.clone();
                let notice = Operation {
                    index,
                    answered,
                    error,
                    revision,
                    end: kind,
                    ..operation(line, process, time)
                };
                paired.notices.push(Operation { asked: String::new(), ..notice });
            }
        }
    }
    paired.operations.extend(open.into_values());
    paired.operations.sort_by_key(|operation| operation.index);
    paired
}

fn operation(line: Line<'_>, process: u32, ended_at: u64) -> Operation {
    let asked = line.value.map(|value| value.get().to_owned()).unwrap_or_default();
    Operation {
        index: line.index,
        process,
        f: name(&line.f, &asked),
        called: line.f,
        key: line.key,
        asked,
        answered: String::new(),
        node: line.node,
        revision: None,
        error: None,
        invoked_at: line.time,
        ended_at,
        end: EventKind::Invoke,
    }
}

fn complete(asked: Operation, line: Line<'_>) -> Operation {
    Operation {
        answered: line.value.map(|value| value.get().to_owned()).unwrap_or_default(),
        revision: line.rev,
        error: line.error,
        ended_at: line.time,
        end: line.kind,
        node: line.node.or_else(|| asked.node.clone()),
        ..asked
    }
}

/// Adds the kind of a request to the name, where one name covers several: `{"put":{…}}` of `kv` is `kv put`.
fn name(f: &str, asked: &str) -> String {
    let fields: BTreeMap<String, &RawValue> = serde_json::from_str(asked).unwrap_or_default();
    match fields.first_key_value() {
        Some((kind, value)) if fields.len() == 1 && value.get().starts_with('{') => format!("{f} {kind}"),
        Some(_) | None => f.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::recorded::{Recorded, Texts};

    #[test]
    fn what_a_watch_shows_completes_nothing() {
        let history = [
            r#"{"index":0,"time":1,"type":"invoke","process":5,"f":"watch","node":"n1","value":{"from":3}}"#,
            r#"{"index":1,"time":9,"type":"ok","process":5,"f":"notice","node":"n1","rev":7}"#,
            r#"{"index":2,"time":12,"type":"ok","process":5,"f":"watch","node":"n1"}"#,
            r#"{"index":3,"time":13,"type":"ok","process":5,"f":"notice","node":"n1","rev":8}"#,
        ]
        .join("\n");
        let run = Recorded::read(&Texts { history, ..Texts::default() });
        let (operation, notices) = (&run.operations[0], &run.notices);
        assert_eq!((run.operations.len(), operation.latency(), operation.end), (1, 11, EventKind::Ok));
        let revisions: Vec<_> = notices.iter().map(|notice| (notice.revision, notice.latency())).collect();
        assert_eq!(revisions, [(Some(7), 0), (Some(8), 0)]);
        assert_eq!(run.by_function()["notice"], [2, 0, 0]);
        let history = [
            r#"{"index":0,"time":1,"type":"invoke","process":5,"f":"watch","node":"n1"}"#,
            r#"{"index":1,"time":9,"type":"info","process":5,"f":"notice","node":"n1","error":"reset"}"#,
        ];
        let ended = Recorded::read(&Texts { history: history.join("\n"), ..Texts::default() });
        assert_eq!((ended.operations[0].ended_at, ended.operations[0].end), (9, EventKind::Info));
        assert_eq!(run.find(1).map(|found| found.f.as_str()), Some("notice"));
    }

    #[test]
    fn one_name_for_several_requests_is_told_apart() {
        assert_eq!(name("kv", r#"{"put":{"key":"k"}}"#), "kv put");
        assert_eq!(name("write", r#"{"value":"v"}"#), "write");
        assert_eq!(name("txn", r#"[["r","x",null]]"#), "txn");
    }
}
