//! What every consumer of the API shares: the gRPC client, reflector and cache, leader lock, and a fake API for tests.
//!
//! Reading order: [`object`] (what can travel), [`options`] and [`error`] (what calls say), [`api`] (the verbs, with
//! fail-over between servers in [`servers`]), then the level-based read path: [`watcher`] (pure state machine) →
//! [`reflector`] (its driver) → [`cache`] (pure state plus a shared handle), and [`leader_lock`]. [`fake`] is an
//! in-memory API behind the same wire, for tests of controllers, scheduler and agents.
//!
//! A write that may have been applied is never reported as failed: [`ApiError::OutcomeUnknown`] says so.

pub mod api;
pub mod backoff;
pub mod cache;
pub mod error;
pub mod fake;
pub mod leader_lock;
pub mod object;
pub mod options;
pub mod reflector;
pub mod servers;
pub mod watcher;

pub use api::{Client, ClientConfig, WatchEvent};
pub use backoff::Backoff;
pub use cache::{Cache, Change, ChangeKind, Changes, ObjectKey};
pub use error::{ApiError, Cause, Failure};
pub use leader_lock::{Epoch, LeaderLock, LeaderLockConfig, Tenure};
pub use object::{ApiObject, DynamicObject, MetadataObject, ResourceKind};
pub use options::{
    DeleteOptions, Fence, JoinRequest, Joined, List, ListOptions, Patch, Propagation, Token, TokenRequest,
    WatchOptions, WriteOptions,
};
pub use reflector::{Reflector, ReflectorOptions};
