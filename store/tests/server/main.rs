//! The store's server through the doors that others use: etcd's API, HTTP, the program with its flags, members with real files,
//! sockets and threads. One program, because each would link the whole store again.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::as_conversions,
    reason = "tests"
)]

mod harness;

// What one member answers.
mod differential;
mod etcd_wire;
mod etcdctl;
mod http;

// What several do together.
mod auth_cluster;
mod cluster;
mod members;
mod snapshot;

// Who speaks with them.
mod clients;
