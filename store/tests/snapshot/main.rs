//! Snapshots leave a store and come into another one, ours and real etcds', with either side's tools; and what a lost cluster left goes on.
//!
//! Peers are the programs that `KEELSON_ETCD` lists, else the `etcd` on the PATH; `cargo xtask test` names Debian's and the newest.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "tests")]

mod content;
mod etcd;
mod exchange;
mod forced;
#[path = "../harness/mod.rs"]
mod harness;
mod ours;
mod refused;
mod restored;
