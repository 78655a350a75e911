//! A store whose clients are checked: what the etcd edge needs to find out who asks, and to let the log decide. Implemented by a
//! raft member and by the store in memory.
//!
//! Callers in the same process use [`crate::kv::Kv`] and may do everything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::auth::{AuthState, Caller, Ended, Secret, SessionChange, Tokens, enabled_at};
use crate::engine::EngineError;
use crate::kv::KvError;
use crate::mvcc::{Answer, Command, LeaseId};
use crate::watch::StoreAccess;

/// Passwords that are hashed or compared at a time; each keeps a thread busy for a tenth of a second.
const HASHING_MAX: usize = 2;

/// A store that tells its clients apart.
#[tonic::async_trait]
pub trait Guarded: StoreAccess {
    /// Returns who is known here.
    fn sessions(&self) -> &Sessions;

    /// Proposes a command and returns its answer once this member has applied it.
    async fn propose(&self, command: &Command) -> Result<Answer, KvError>;

    /// Returns the command that grants a lease; `LeaseId::NONE` lets the store pick the id.
    ///
    /// # Errors
    /// When the time to live is too large.
    fn grant_command(&self, id: LeaseId, ttl: Duration) -> Result<Command, KvError>;

    /// Returns a number that nobody can guess.
    fn unguessable(&self) -> u128;

    /// Deals with a failed read of the engine.
    fn read_failed(&self, error: &EngineError) -> KvError;
}

/// What one member knows of its clients, in step with what it has applied.
#[derive(Debug)]
pub struct Sessions {
    /// The auth revision while authentication is on, 0 while it is off.
    enabled_at: AtomicU64,
    tokens: Mutex<Tokens>,
    started: Instant,
    pub(crate) hashing: Semaphore,
}

impl Sessions {
    /// Knows nobody yet; a token ends `token_ttl` after its last use.
    pub(crate) fn new(token_ttl: Duration) -> Self {
        Self {
            enabled_at: AtomicU64::new(0),
            tokens: Mutex::new(Tokens::new(token_ttl)),
            started: Instant::now(),
            hashing: Semaphore::new(HASHING_MAX),
        }
    }

    /// Returns the auth revision while authentication is on, 0 while it is off, as far as this member knows.
    pub(crate) fn auth_revision(&self) -> u64 {
        self.enabled_at.load(Ordering::Acquire)
    }

    /// Whether requests are checked, as far as this member knows.
    pub(crate) fn is_enabled(&self) -> bool {
        self.auth_revision() != 0
    }

    /// Returns whom a token stands for; `None` when this member does not know it.
    pub(crate) fn caller(&self, token: &Secret) -> Option<Caller> {
        // Read first: were the user replaced meanwhile, the caller would carry the older revision and be refused.
        let auth_revision = self.auth_revision();
        let name = self.tokens().user(self.now(), token)?;
        Some(Caller::User { name, auth_revision })
    }

    /// Returns the caller whom a certificate proves.
    pub(crate) fn certified(&self, name: &str) -> Caller {
        let auth_revision = self.auth_revision();
        Caller::User { name: name.to_owned(), auth_revision }
    }

    /// Follows a command that was applied; called in log order, before its client is answered.
    pub(crate) fn follow(&self, change: SessionChange) {
        match change {
            SessionChange::None => {}
            SessionChange::Began { user, token } => self.tokens().began(self.now(), user, token),
            SessionChange::Changed { enabled_at, ended } => {
                self.tokens().ended(&ended);
                self.enabled_at.store(enabled_at, Ordering::Release);
            }
        }
    }

    /// The whole state was replaced. What became of the users meanwhile is not known, so their sessions end.
    pub(crate) fn replaced(&self, auth: &AuthState) {
        self.tokens().ended(&Ended::Everybody);
        self.enabled_at.store(enabled_at(auth), Ordering::Release);
    }

    /// Returns how many tokens this member takes.
    pub(crate) fn count(&self) -> usize {
        self.tokens().count()
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
