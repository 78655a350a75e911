//! What happens beside the store when entries are applied.

use std::sync::Arc;

use super::Leases;
use crate::mvcc::Store;
use crate::raft::state_machine::{AppliedEntry, Observer};
use crate::watch::Hub;

/// Feeds watchers and lease clocks.
pub(super) struct MemberObserver {
    pub(super) hub: Arc<Hub>,
    pub(super) leases: Arc<Leases>,
}

impl Observer for MemberObserver {
    fn applied(&self, entry: AppliedEntry) {
        self.leases.follow(&entry.leases);
        self.hub.publish(entry.applied.events);
    }

    fn replaced(&self, store: &Store) {
        self.leases.replaced();
        self.hub.reset(store.current_revision());
    }
}
