//! Everything that a run leaves for checkers.

use super::versions::Versions;
use super::witness::LogEntry;
use crate::history::Event;

/// What a run recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub events: Vec<Event>,
    /// The log that each member showed at the end, by the member's name. Empty for a history without a run.
    pub logs: Vec<(String, Vec<LogEntry>)>,
    /// What each member showed while the run was under way: knows what was compacted later.
    pub live: Vec<(String, Vec<LogEntry>)>,
}

impl Record {
    /// Returns a history of which nothing but its events is known.
    #[must_use]
    pub fn of_events(events: Vec<Event>) -> Self {
        Self { events, ..Self::default() }
    }

    /// Returns every change that any member has shown; that they agree is the convergence checker's business.
    #[must_use]
    pub fn versions(&self) -> Versions<'_> {
        // What stands in a log at the end counts where the two differ.
        Versions::new(self.live.iter().chain(&self.logs).flat_map(|(_, log)| log))
    }
}
