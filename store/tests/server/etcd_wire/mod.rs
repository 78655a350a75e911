//! Recorded calls of etcd against the etcd edge over a store in memory: every field of every answer, but for what differs from
//! cluster to cluster. The recordings are not part of the project; without them the test says so and passes.

mod auth;
mod contest;
mod json;
mod members;
mod replay;
mod stream;
mod watch;
