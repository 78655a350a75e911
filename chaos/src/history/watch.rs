//! Watches: what each was asked to show, and every response that came.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::exchange::{is_false, is_zero};
use super::{Event, EventKind, Function, KeyState, Process};

/// What a watch is asked to show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchSpec {
    pub key: String,
    /// All keys from `key` to before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// The first revision that it shows; 0 for what comes after its creation.
    pub from: i64,
    #[serde(default, skip_serializing_if = "is_false")]
    pub prev_kv: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub no_put: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub no_delete: bool,
    /// Whether a large response may come in parts.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fragment: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub progress_notify: bool,
}

/// One change that a watch shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchEvent {
    pub revision: i64,
    pub key: String,
    /// `None` is a delete.
    pub state: Option<KeyState>,
    /// What was there before, as the watch shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<KeyState>,
}

/// One response of a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<WatchEvent>,
    /// More of the same comes in the next response.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_fragment: bool,
    /// Says that all up to the header's revision has been shown.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_progress: bool,
    /// Why the store ended the watch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canceled: Option<String>,
    /// Where a watch that was asked for what is forgotten may begin.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub compacted: i64,
}

/// A response with what its header said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noticed {
    /// Index of the event in the history.
    pub index: u64,
    pub time: u64,
    pub revision: i64,
    pub notice: Notice,
}

/// One watch from its creation to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Index of the event that asked for it.
    pub index: u64,
    pub node: String,
    pub spec: WatchSpec,
    /// The header's revision when it was created; `None` when that was not answered.
    pub created: Option<i64>,
    pub notices: Vec<Noticed>,
    /// The harness waited for it to show what had happened, and it did not; what was missing, in words.
    pub stalled: Option<String>,
}

/// Collects the watches of a history. Each has a process of its own.
///
/// # Errors
/// A sentence saying which event breaks the format.
pub fn watches(events: &[Event]) -> Result<Vec<Watch>, String> {
    let mut watches: BTreeMap<Process, Watch> = BTreeMap::new();
    for event in events.iter().filter(|event| matches!(event.f, Function::Watch | Function::Notice)) {
        let broken = |what: &str| format!("event {}: {what}", event.index);
        if event.f == Function::Watch && event.kind == EventKind::Invoke {
            let spec = serde_json::from_value(event.value.clone())
                .map_err(|error| broken(&format!("the watch cannot be read: {error}")))?;
            let node = event.node.clone().unwrap_or_default();
            let watch =
                Watch { index: event.index, node, spec, created: None, notices: Vec::new(), stalled: None };
            if watches.insert(event.process, watch).is_some() {
                return Err(broken("the process has a watch already"));
            }
            continue;
        }
        let watch = watches.get_mut(&event.process).ok_or_else(|| broken("there is no such watch"))?;
        match (event.f, event.kind) {
            (Function::Watch, EventKind::Ok) => watch.created = event.rev,
            (Function::Notice, EventKind::Ok) => {
                let notice = serde_json::from_value(event.value.clone())
                    .map_err(|error| broken(&format!("the response cannot be read: {error}")))?;
                let revision = event.rev.ok_or_else(|| broken("a response without revision"))?;
                watch.notices.push(Noticed { index: event.index, time: event.time, revision, notice });
            }
            (Function::Notice, EventKind::Fail) => watch.stalled.clone_from(&event.error),
            // It ended, or was never created: what it had shown stands.
            _ => {}
        }
    }
    Ok(watches.into_values().collect())
}
