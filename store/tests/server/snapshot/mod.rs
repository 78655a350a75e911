//! Snapshots leave a store and come into another one, ours and real etcds', with either side's tools; and what a lost cluster left goes on.
//!
//! Peers are the programs that `KEELSON_ETCD` lists, else the `etcd` on the PATH; `cargo xtask test` names Debian's and the newest.

mod content;
mod etcd;
mod exchange;
mod forced;
mod ours;
mod refused;
mod restored;
