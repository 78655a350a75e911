//! Real clients of etcd with TLS, users and certificates that name them: Debian's etcdctl, the Rust crate and Debian's Python client.

mod etcdctl;
mod python;
mod rust;
