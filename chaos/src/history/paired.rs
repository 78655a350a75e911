//! Invocations and their completions.

use std::collections::BTreeMap;

use super::{Event, EventKind, Process};

/// An invocation and how it ended; `None` where no event says so.
pub(super) type Pair<'a> = (&'a Event, Option<&'a Event>);

/// Pairs invocations of one kind with their completions, by process and in the order of invocations. A process has at most one open.
///
/// # Errors
/// A sentence saying which event breaks the format.
pub(super) fn paired<'a>(events: impl IntoIterator<Item = &'a Event>) -> Result<Vec<Pair<'a>>, String> {
    let mut open: BTreeMap<Process, &Event> = BTreeMap::new();
    let mut pairs = Vec::new();
    for event in events {
        if event.kind == EventKind::Invoke {
            if let Some(previous) = open.insert(event.process, event) {
                let (index, previous) = (event.index, previous.index);
                return Err(format!("event {index}: the process still has operation {previous} open"));
            }
        } else {
            let asked = open.remove(&event.process);
            let asked = asked.ok_or_else(|| {
                format!("event {}: completes an operation that was not invoked", event.index)
            })?;
            pairs.push((asked, Some(event)));
        }
    }
    pairs.extend(open.into_values().map(|asked| (asked, None)));
    pairs.sort_by_key(|(asked, _)| asked.index);
    Ok(pairs)
}

impl Event {
    /// Says what about this event breaks the format.
    pub(super) fn broken(&self, what: &str) -> String {
        format!("event {}: {what}", self.index)
    }

    /// Returns the revision of an answer.
    pub(super) fn revision(&self) -> Result<i64, String> {
        self.rev.ok_or_else(|| self.broken("an answer without revision"))
    }

    /// Reads what an event carries.
    pub(super) fn carried<T: serde::de::DeserializeOwned>(&self, what: &str) -> Result<T, String> {
        serde_json::from_value(self.value.clone())
            .map_err(|error| self.broken(&format!("the {what} cannot be read: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::history::Function;

    fn event(index: u64, kind: EventKind, process: u32) -> Event {
        let (process, f) = (Process::Client(process), Function::Kv);
        let (key, value, node, rev, error) = (None, Value::Null, None, None, None);
        Event { index, time: index, kind, process, f, key, value, node, rev, error }
    }

    #[test]
    fn pairs_come_in_the_order_of_invocations_whoever_ends_first() {
        let events = [
            event(0, EventKind::Invoke, 0),
            event(1, EventKind::Invoke, 1),
            event(2, EventKind::Invoke, 2),
            event(3, EventKind::Info, 1),
            event(4, EventKind::Ok, 0),
        ];
        let pairs: Vec<(u64, Option<u64>)> = paired(&events)
            .unwrap()
            .iter()
            .map(|(asked, end)| (asked.index, end.map(|end| end.index)))
            .collect();
        assert_eq!(pairs, [(0, Some(4)), (1, Some(3)), (2, None)]);
    }

    #[test]
    fn what_is_open_twice_or_was_never_asked_for_breaks_the_format() {
        let twice = [event(0, EventKind::Invoke, 0), event(1, EventKind::Invoke, 0)];
        assert_eq!(paired(&twice).unwrap_err(), "event 1: the process still has operation 0 open");
        let never = paired(&[event(3, EventKind::Ok, 0)]).unwrap_err();
        assert_eq!(never, "event 3: completes an operation that was not invoked");
    }
}
