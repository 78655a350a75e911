//! The cluster's keys: its CA, the key that signs service-account tokens and the secret behind join tokens.
//!
//! All of them are one [`Bundle`] in one versioned file that every server holds and that the store never sees.

mod bundle;
mod issue;
mod join_token;
mod kubeconfig;
mod service_account;

pub use bundle::{Bundle, PkiError};
pub use issue::{Issued, MEMBERS, ServerNames};
pub use join_token::{JoinToken, JoinTokenError};
pub use kubeconfig::{Kubeconfig, KubeconfigContext};
pub use service_account::{BoundObject, TokenClaims, TokenError, TokenSigner, VerifiedToken};

#[cfg(test)]
mod tests;
