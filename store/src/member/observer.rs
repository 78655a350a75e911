//! What happens beside the store when entries are applied.

use std::sync::Arc;

use super::Leases;
use crate::guarded::Sessions;
use crate::lease::LeaseChange;
use crate::metrics::Counters;
use crate::mvcc::{EventKind, Store};
use crate::raft::state_machine::{AppliedEntry, Observer};
use crate::watch::Hub;

/// Feeds watchers, lease clocks and sessions.
pub(super) struct MemberObserver {
    pub(super) hub: Arc<Hub>,
    pub(super) leases: Arc<Leases>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) counters: Counters,
}

impl MemberObserver {
    fn count(&self, entry: &AppliedEntry) {
        match &entry.leases {
            LeaseChange::None => {}
            LeaseChange::Granted(_) => {
                self.counters.leases_granted.inc();
            }
            LeaseChange::Revoked(_) => {
                self.counters.leases_ended.inc();
            }
            LeaseChange::Expired(leases) => {
                self.counters.leases_ended.inc_by(u64::try_from(leases.len()).unwrap_or(u64::MAX));
            }
        }
        for event in entry.applied.events.iter().flat_map(|revision| &revision.events) {
            match event.kind {
                EventKind::Put => self.counters.puts.inc(),
                EventKind::Delete => self.counters.deletes.inc(),
            };
        }
    }
}

impl Observer for MemberObserver {
    fn applied(&self, entry: AppliedEntry) {
        self.count(&entry);
        self.leases.follow(&entry.leases);
        self.sessions.follow(entry.sessions);
        self.hub.publish(entry.applied.events);
    }

    fn replaced(&self, store: &Store) {
        self.leases.replaced();
        self.sessions.replaced(store.auth());
        self.hub.reset(store.current_revision());
    }
}
