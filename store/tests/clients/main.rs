//! Real clients of etcd with TLS, users and certificates that name them: Debian's etcdctl, the Rust crate and Debian's Python client.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod etcdctl;
#[path = "../harness/mod.rs"]
mod harness;
mod python;
mod rust;
