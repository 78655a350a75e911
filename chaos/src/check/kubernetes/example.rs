//! Hand-made records for the checkers' tests: a store that keeps its promises, which each test then bends.

use serde_json::{Value, json};

use super::super::Record;
use super::super::opinions::Opinion;
use super::super::witness::LogEntry;
use crate::history::{ApiAnswer, ApiCall, Event, EventKind, Function, Informed, KeyState, Process, Resource};

/// Who judges an example.
type Checker = fn(&Record) -> Result<Option<Opinion>, String>;

/// Grows a record call by call.
#[derive(Clone)]
pub(super) struct Example {
    pub events: Vec<Event>,
    pub log: Vec<LogEntry>,
    checker: Checker,
    namespace: &'static str,
}

impl Example {
    pub(super) fn judged_by(checker: Checker) -> Self {
        Self { events: Vec::new(), log: Vec::new(), checker, namespace: "" }
    }

    /// Says where the objects of [`Example::object`] are.
    pub(super) fn within(self, namespace: &'static str) -> Self {
        Self { namespace, ..self }
    }

    /// Adds an event; one nanosecond passes with each.
    pub(super) fn event(&mut self, process: u32, f: Function, kind: EventKind, value: Value) -> u64 {
        let index = u64::try_from(self.events.len()).unwrap();
        let (process, node) = (Process::Client(process), Some("n1".to_owned()));
        let error = (kind == EventKind::Fail).then(|| "why".to_owned());
        let (key, rev) = (None, None);
        self.events.push(Event { index, time: index, kind, process, f, key, value, node, rev, error });
        index
    }

    /// Adds a request with its answer, or with none that is certain.
    pub(super) fn call(&mut self, process: u32, call: &ApiCall, answer: Option<ApiAnswer>) -> u64 {
        let index = self.event(process, Function::Api, EventKind::Invoke, json!(call));
        match answer {
            Some(answer) => self.event(process, Function::Api, EventKind::Ok, json!(answer)),
            None => self.event(process, Function::Api, EventKind::Info, Value::Null),
        };
        index
    }

    pub(super) fn inform(&mut self, process: u32, informed: &Informed) {
        self.event(process, Function::Inform, EventKind::Ok, json!(informed));
    }

    /// Adds a wait that came to its end.
    pub(super) fn settle(&mut self) {
        self.event(90, Function::Settle, EventKind::Invoke, Value::Null);
        self.event(90, Function::Settle, EventKind::Ok, Value::Null);
    }

    /// Adds a version of an object to the log; `None` deletes it.
    pub(super) fn log(&mut self, revision: i64, key: &str, object: Option<Value>) {
        let before = self.log.iter().rev().find(|entry| entry.key == key);
        let create_revision = match before {
            Some(LogEntry { state: Some(state), .. }) => state.create_revision,
            Some(LogEntry { state: None, .. }) | None => revision,
        };
        let state = object.map(|object| KeyState {
            value: object.to_string(),
            version: 1,
            create_revision,
            mod_revision: revision,
            lease: 0,
        });
        self.log.push(LogEntry { revision, key: key.to_owned(), state });
    }

    /// Adds a version of an object by its kind and name; `None` deletes it.
    pub(super) fn object(&mut self, revision: i64, resource: Resource, name: &str, object: Option<Value>) {
        self.log(revision, &format!("{}{name}", resource.folder(self.namespace)), object);
    }

    /// Returns what its checker says.
    pub(super) fn opinion(&self) -> Opinion {
        let mut log = self.log.clone();
        log.sort_by_key(|entry| entry.revision);
        let (events, logs) = (self.events.clone(), vec![("n1".to_owned(), log)]);
        (self.checker)(&Record { events, logs, live: Vec::new() }).unwrap().unwrap()
    }

    /// Returns the rules that its checker finds broken; it must be able to judge all of it.
    pub(super) fn rules(&self) -> Vec<&'static str> {
        let opinion = self.opinion();
        assert_eq!(opinion.unknown, Vec::<String>::new());
        opinion.violations.into_iter().map(|violation| violation.rule).collect()
    }
}

/// Returns a good answer that shows an object at a revision.
pub(super) fn done(revision: i64, object: Value) -> Option<ApiAnswer> {
    Some(ApiAnswer { code: 200, revision, object, ..ApiAnswer::default() })
}

/// Returns a refusal.
pub(super) fn refused(code: u16, reason: &str) -> Option<ApiAnswer> {
    Some(ApiAnswer { code, reason: reason.to_owned(), ..ApiAnswer::default() })
}

/// Marks an object as on its way out.
pub(super) fn leaving(mut object: Value) -> Value {
    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    object
}
