//! The replicated MVCC key-value store that takes etcd's place and speaks its API.
#[cfg(not(tokio_unstable))]
compile_error!(
    "build with `--cfg tokio_unstable` (set in .cargo/config.toml): the simulator needs tokio's seedable scheduler"
);

pub mod admin;
pub mod engine;
pub mod etcd;
mod grpc;
pub mod kv;
pub mod lease;
pub mod memory;
pub mod mvcc;
pub mod wal;
pub mod watch;
pub mod wire;
