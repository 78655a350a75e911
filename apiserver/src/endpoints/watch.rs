//! WATCH: what a selector makes of the changes of a collection.
//!
//! The state machine `Transition` is pure. An object that enters the selection is ADDED, one that leaves it is
//! DELETED; a DELETED event carries the last state with the revision of the deletion. Bookmarks carry only revisions
//! up to which the store has confirmed that everything was delivered.

use std::collections::VecDeque;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt, unfold};
use serde_json::json;
use store::kv::KvError;
use store::mvcc::Revision;
use tokio::time::Instant;

use super::list::{ListOptions, parse_resource_version};
use super::status::Status;
use super::{Api, Call};
use crate::object;
use crate::registry::{FieldError, FieldErrorReason, Kind, Object};
use crate::selector::Selector;
use crate::storage::StorageError;
use crate::storage::watch::{Change, StorageEvent};

/// Progress is passed on as a bookmark at most this often.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(10);
/// Annotation of the bookmark that ends the initial events.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Kind of a watch event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventType {
    Added,
    Modified,
    Deleted,
    Bookmark,
}

impl EventType {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
            Self::Bookmark => "BOOKMARK",
        }
    }
}

/// One event as every wire format sends it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WatchEvent {
    pub(crate) event_type: EventType,
    pub(crate) object: Object,
    pub(crate) initial_events_end: bool,
}

/// The options of a watch.
#[derive(Clone, Debug, Default)]
pub(crate) struct WatchOptions {
    pub(crate) selector: Selector,
    pub(crate) resource_version: String,
    pub(crate) resource_version_match: String,
    /// `None` when the client did not say.
    pub(crate) send_initial_events: Option<bool>,
    pub(crate) bookmarks: bool,
    /// When the server ends the stream.
    pub(crate) timeout: Duration,
}

/// Events of a watch. Ends at its timeout, or after the first error.
pub(crate) type Events = BoxStream<'static, Result<WatchEvent, Status>>;

struct State {
    kind: &'static Kind,
    selector: Selector,
    pending: VecDeque<WatchEvent>,
    source: Option<BoxStream<'static, Result<StorageEvent, StorageError>>>,
    bookmarks: bool,
    last_bookmark: Instant,
    /// Everything up to here is known to be delivered.
    progress: Revision,
    deadline: Instant,
}

impl Api {
    /// Starts a watch.
    pub(crate) async fn watch(&self, call: &Call, options: WatchOptions) -> Result<Events, Status> {
        validate(&options)?;
        let (pending, start) = self.initial(call, &options).await?;
        let source = self.storage.watch(call.kind, &call.namespace, start.next()).await;
        let source = source.map_err(|error| Status::from_storage(error, call.kind, ""))?;
        let now = Instant::now();
        let state = State {
            kind: call.kind,
            selector: options.selector,
            pending,
            source: Some(source),
            bookmarks: options.bookmarks,
            last_bookmark: now,
            progress: start,
            deadline: now + options.timeout,
        };
        Ok(unfold(state, next).boxed())
    }

    /// Returns the synthetic events that come first, and the revision after which changes follow.
    async fn initial(
        &self,
        call: &Call,
        options: &WatchOptions,
    ) -> Result<(VecDeque<WatchEvent>, Revision), Status> {
        let version = options.resource_version.as_str();
        let initial = options.send_initial_events.unwrap_or(matches!(version, "" | "0"));
        if !initial {
            let revision = match version {
                "" | "0" => self.storage.kv.read_index().await?,
                text => Revision(parse_resource_version(text).map_err(Status::bad_request)?),
            };
            return Ok((VecDeque::new(), revision));
        }
        let list = ListOptions {
            selector: options.selector.clone(),
            resource_version: options.resource_version.clone(),
            ..ListOptions::default()
        };
        let page = self.list(call, &list).await?;
        let added = |object| WatchEvent { event_type: EventType::Added, object, initial_events_end: false };
        let mut events: VecDeque<_> = page.items.into_iter().map(|stored| added(stored.object)).collect();
        if options.send_initial_events == Some(true) && options.bookmarks {
            let mut end = bookmark(call.kind, page.revision);
            object::set_meta(&mut end.object, "annotations", json!({INITIAL_EVENTS_END: "true"}));
            end.initial_events_end = true;
            events.push_back(end);
        }
        Ok((events, page.revision))
    }
}

async fn next(mut state: State) -> Option<(Result<WatchEvent, Status>, State)> {
    loop {
        if let Some(event) = state.pending.pop_front() {
            return Some((Ok(event), state));
        }
        let source = state.source.as_mut()?;
        let item = tokio::time::timeout_at(state.deadline, source.next()).await;
        match item {
            Err(_) => {
                // The last word of a watch that timed out lets the client resume without a gap or a repeat.
                state.source = None;
                if state.bookmarks {
                    state.pending.push_back(bookmark(state.kind, state.progress));
                }
            }
            Ok(None) => return None,
            Ok(Some(Err(error))) => {
                state.source = None;
                return Some((Err(watch_error(error, state.kind)), state));
            }
            Ok(Some(Ok(StorageEvent::Progress(revision)))) => state.note_progress(revision),
            Ok(Some(Ok(StorageEvent::Changes(changes)))) => {
                for change in changes {
                    state.progress = change.revision;
                    state.pending.extend(transition(state.kind, &state.selector, change));
                }
            }
        }
    }
}

impl State {
    fn note_progress(&mut self, revision: Revision) {
        self.progress = revision;
        let now = Instant::now();
        if self.bookmarks && now.duration_since(self.last_bookmark) >= BOOKMARK_INTERVAL {
            self.last_bookmark = now;
            self.pending.push_back(bookmark(self.kind, revision));
        }
    }
}

fn watch_error(error: StorageError, kind: &Kind) -> Status {
    match error {
        StorageError::Kv(KvError::Compacted { requested, compacted }) => {
            Status::expired(format!("too old resource version: {requested} ({compacted})"))
        }
        other => Status::from_storage(other, kind, ""),
    }
}

/// Returns the event that a change means under a selector, if any.
fn transition(kind: &Kind, selector: &Selector, change: Change) -> Option<WatchEvent> {
    let selected = |object: &Object| selector.matches(kind, object);
    let before = match &change.old {
        Some(old) => selected(old),
        // A missing old state of a changed object is compacted history: it may have been selected.
        None => !change.created,
    };
    let event = |event_type, object| Some(WatchEvent { event_type, object, initial_events_end: false });
    match (before, change.new) {
        (true, Some(new)) if selected(&new) => event(EventType::Modified, new),
        (false, Some(new)) if selected(&new) => event(EventType::Added, new),
        (true, new) => {
            let mut last = change.old.or(new)?;
            object::set_meta(&mut last, "resourceVersion", change.revision.0.to_string());
            event(EventType::Deleted, last)
        }
        (false, Some(_) | None) => None,
    }
}

fn bookmark(kind: &Kind, revision: Revision) -> WatchEvent {
    let object = json!({
        "kind": kind.kind,
        "apiVersion": kind.api_version(),
        "metadata": {"resourceVersion": revision.0.to_string(), "creationTimestamp": null},
    });
    let object = object.as_object().cloned().unwrap_or_default();
    WatchEvent { event_type: EventType::Bookmark, object, initial_events_end: false }
}

fn validate(options: &WatchOptions) -> Result<(), Status> {
    let wanted = options.resource_version_match.as_str();
    let problem = |field: &str, reason, message: &str| {
        let error = FieldError { field: field.to_owned(), reason, message: message.to_owned() };
        Err(Status::invalid_options("ListOptions", &[error]))
    };
    match (options.send_initial_events, wanted) {
        (Some(_), "NotOlderThan") | (None, "") => Ok(()),
        (Some(_), "") => problem(
            "resourceVersionMatch",
            FieldErrorReason::Forbidden,
            "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (Some(_), other) => problem(
            "resourceVersionMatch",
            FieldErrorReason::NotSupported,
            &format!("Unsupported value: \"{other}\": supported values: \"NotOlderThan\""),
        ),
        (None, _) => problem(
            "resourceVersionMatch",
            FieldErrorReason::Forbidden,
            "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
    }
}
