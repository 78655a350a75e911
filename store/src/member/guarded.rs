//! Clients and their rights on top of raft.

use std::time::Duration;

use super::Member;
use crate::engine::EngineError;
use crate::guarded::{Guarded, Sessions};
use crate::kv::KvError;
use crate::lease::granted_ttl_seconds;
use crate::mvcc::{Answer, Command, LeaseId, Store};
use crate::watch::StoreAccess;

impl StoreAccess for Member {
    fn with_store(&self, read: &mut dyn FnMut(&Store)) {
        read(&self.node.machine().store());
    }
}

#[tonic::async_trait]
impl Guarded for Member {
    fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    async fn propose(&self, command: &Command) -> Result<Answer, KvError> {
        Self::propose(self, command).await
    }

    fn grant_command(&self, id: LeaseId, ttl: Duration) -> Result<Command, KvError> {
        let ttl_seconds = granted_ttl_seconds(ttl, self.node.timing().election_timeout)?;
        let id = if id == LeaseId::NONE { self.random_lease() } else { id };
        Ok(Command::LeaseGrant { id, ttl_seconds })
    }

    fn unguessable(&self) -> u128 {
        self.node.env().unguessable()
    }

    fn read_failed(&self, error: &EngineError) -> KvError {
        self.cannot_read(error)
    }
}
