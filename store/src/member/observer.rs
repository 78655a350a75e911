//! What happens beside the store when entries are applied.

use std::sync::Arc;

use super::Leases;
use crate::guarded::Sessions;
use crate::mvcc::Store;
use crate::raft::state_machine::{AppliedEntry, Observer};
use crate::watch::Hub;

/// Feeds watchers, lease clocks and sessions.
pub(super) struct MemberObserver {
    pub(super) hub: Arc<Hub>,
    pub(super) leases: Arc<Leases>,
    pub(super) sessions: Arc<Sessions>,
}

impl Observer for MemberObserver {
    fn applied(&self, entry: AppliedEntry) {
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
