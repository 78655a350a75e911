//! The same random requests to a real etcd and to the etcd edge over a store in memory; every field, code and text compared.
//!
//! Peers are the programs that `KEELSON_ETCD` lists, else the `etcd` on the PATH; `cargo xtask test` names Debian's and the newest.
//! `KEELSON_DIFFERENTIAL_SEED` replays a run, `KEELSON_DIFFERENTIAL_REQUESTS` makes it longer.

mod compare;
mod generate;
mod hits;
mod peer;
mod side;
