//! The replicated MVCC key-value store that takes etcd's place and speaks its API.
#[cfg(not(tokio_unstable))]
compile_error!(
    "build with `--cfg tokio_unstable` (set in .cargo/config.toml): the simulator needs tokio's seedable scheduler"
);

pub mod admin;
pub mod auth;
pub mod backup;
mod bbolt;
pub mod cli;
mod codec;
pub mod config;
mod contest;
pub mod control;
mod directory;
pub mod engine;
pub mod env;
pub mod etcd;
mod etcd_flags;
#[cfg(test)]
mod fuzz;
mod gateway;
mod grpc;
pub mod guarded;
mod health;
mod http;
pub mod kv;
pub mod lease;
pub mod level;
mod member;
mod membership;
pub mod memory;
pub mod metrics;
pub mod mvcc;
pub mod net;
mod raft;
mod reads;
pub mod wal;
pub mod watch;
pub mod web_token;
pub mod wire;

pub use config::Config;
pub use directory::{DirectoryError, StoredDivergence};
pub use member::{AutoCompaction, JoinError, Member, MemberConfig, MemberError, RAFT_THREAD};
pub use reads::ReadBudget;
