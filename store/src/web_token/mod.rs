//! JSON web tokens: a user proves itself by a signature of whoever holds the key, not by a session that members remember.
//!
//! `options` reads `--auth-token`, `keys` the files that it names, `signer` signs and checks; `es512` does both for one method. Nothing here is replicated: all members
//! get the same keys, and a token says at which revision of users and roles its owner was looked at. It is void once they
//! have changed, as in etcd.
//!
//! Not here: what a user may do, which `auth` decides as for every other proof.

mod es512;
mod keys;
mod options;
mod signer;

#[cfg(test)]
mod tests;

pub use options::{OptionsError, TokenOptions, WebOptions};
pub use signer::{SignError, TokenSigner};
