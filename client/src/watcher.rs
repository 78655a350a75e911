//! The list-and-watch protocol as a pure state machine: what to ask next, and what an answer means for the cache.
//!
//! ```text
//!            last page                      410 Expired, or relist wanted
//! Listing ─────────────▶ Watching ───────────────────────────────────────▶ Listing
//!    ▲ └─ page ┘            │ ▲ end, disconnect: resume from the last revision, on any server
//!    └─ token expired       └─┘
//! ```
//!
//! Invariant: the revision only grows, and every event above it is handed out exactly once and in order.

use std::time::Duration;

use crate::api::WatchEvent;
use crate::backoff::Backoff;
use crate::error::ApiError;
use crate::object::{ApiObject, revision};
use crate::options::List;

/// First pause after a failure; a resume on another server should not wait long.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// Longest pause while no server answers.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The request to send next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask for a page; the token is empty for the first one.
    List { continue_token: String },
    /// Watch for events after this revision.
    Watch { from: u64 },
}

/// What the cache must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Update<K> {
    /// The whole state at a revision.
    Replace { objects: Vec<K>, revision: u64 },
    /// An object was created or changed.
    Apply { object: K, revision: u64 },
    /// An object went; this is its last state.
    Delete { object: K, revision: u64 },
    /// Nothing else has happened up to this revision.
    Progress { revision: u64 },
}

#[derive(Debug)]
enum State<K> {
    Listing { continue_token: String, objects: Vec<K> },
    Watching { revision: u64 },
}

/// Where one list-and-watch stands.
#[derive(Debug)]
pub struct Watcher<K> {
    state: State<K>,
    backoff: Backoff,
}

impl<K: ApiObject> Watcher<K> {
    /// Starts with a list; `seed` spreads the pauses of many watchers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: Self::start(), backoff: Backoff::new(PAUSE_FIRST, PAUSE_MAX, seed) }
    }

    fn start() -> State<K> {
        State::Listing { continue_token: String::new(), objects: Vec::new() }
    }

    /// Returns the request to send now.
    #[must_use]
    pub fn step(&self) -> Step {
        match &self.state {
            State::Listing { continue_token, .. } => Step::List { continue_token: continue_token.clone() },
            State::Watching { revision } => Step::Watch { from: *revision },
        }
    }

    /// Takes a page; the last one gives the whole state.
    pub fn page(&mut self, page: List<K>) -> Option<Update<K>> {
        self.backoff.reset();
        let State::Listing { continue_token, objects } = &mut self.state else { return None };
        objects.extend(page.items);
        if !page.continue_token.is_empty() {
            *continue_token = page.continue_token;
            return None;
        }
        let objects = std::mem::take(objects);
        self.state = State::Watching { revision: page.revision };
        Some(Update::Replace { objects, revision: page.revision })
    }

    /// Takes an event; one that was delivered before gives nothing.
    pub fn event(&mut self, event: WatchEvent<K>) -> Option<Update<K>> {
        self.backoff.reset();
        let State::Watching { revision: last } = &mut self.state else { return None };
        let update = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                Update::Apply { revision: revision(&object), object }
            }
            WatchEvent::Deleted(object) => Update::Delete { revision: revision(&object), object },
            WatchEvent::Bookmark(revision) => Update::Progress { revision },
        };
        let new = update.revision();
        if new <= *last {
            return None;
        }
        *last = new;
        Some(update)
    }

    /// Takes the end of a watch without an error: the next one resumes where it stopped.
    pub fn ended(&mut self) -> Duration {
        self.backoff.next_delay()
    }

    /// Takes a failure of the last request and returns the pause before the next.
    pub fn failed(&mut self, error: &ApiError) -> Duration {
        if error.is_expired() || matches!(error, ApiError::Malformed(_)) {
            self.state = Self::start();
        }
        self.backoff.next_delay()
    }

    /// Drops the watch in favour of a fresh list.
    pub fn relist(&mut self) {
        self.state = Self::start();
    }
}

impl<K> Update<K> {
    /// Returns the revision that the cache stands at afterwards.
    #[must_use]
    pub fn revision(&self) -> u64 {
        match self {
            Self::Replace { revision, .. }
            | Self::Apply { revision, .. }
            | Self::Delete { revision, .. }
            | Self::Progress { revision } => *revision,
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;
    use crate::error::Failure;

    fn object(name: &str, revision: u64) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.into());
        object.metadata.resource_version = Some(revision.to_string());
        object
    }

    fn page(revision: u64, continue_token: &str) -> List<ConfigMap> {
        List { items: vec![object("a", 3)], revision, continue_token: continue_token.into() }
    }

    fn watching(revision: u64) -> Watcher<ConfigMap> {
        let mut watcher = Watcher::new(1);
        watcher.page(page(revision, ""));
        watcher
    }

    #[test]
    fn pages_are_joined_before_the_state_is_replaced() {
        let mut watcher = Watcher::new(1);
        assert_eq!(watcher.page(page(9, "next")), None);
        assert_eq!(watcher.step(), Step::List { continue_token: "next".into() });
        let Some(Update::Replace { objects, revision }) = watcher.page(page(9, "")) else {
            panic!("no state")
        };
        assert_eq!((objects.len(), revision), (2, 9));
        assert_eq!(watcher.step(), Step::Watch { from: 9 });
    }

    #[test]
    fn lost_connection_resumes_from_the_last_revision_without_a_list() {
        let mut watcher = watching(9);
        watcher.event(WatchEvent::Modified(object("a", 12)));
        watcher.event(WatchEvent::Bookmark(15));
        watcher.failed(&ApiError::Unavailable(Failure::default()));
        assert_eq!(watcher.step(), Step::Watch { from: 15 });
    }

    #[test]
    fn expired_revision_lists_again() {
        let mut watcher = watching(9);
        watcher.failed(&ApiError::Expired(Failure::default()));
        assert_eq!(watcher.step(), Step::List { continue_token: String::new() });
    }

    #[test]
    fn repeated_event_is_not_handed_out_twice() {
        let mut watcher = watching(9);
        assert!(watcher.event(WatchEvent::Added(object("b", 10))).is_some());
        assert_eq!(watcher.event(WatchEvent::Added(object("b", 10))), None);
        assert_eq!(watcher.event(WatchEvent::Bookmark(4)), None);
    }
}
