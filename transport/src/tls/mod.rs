//! TLS identities that can be replaced while connections are open.
//!
//! Both sides look at the files behind their rustls configuration when a connection is made, and read changed ones again. What
//! cannot be used changes nothing. Only aws-lc-rs is used, named explicitly, so nothing here depends on process-wide state.

mod client;
mod fresh;
mod pem;
mod pinned;
mod policy;
mod server;

pub use client::ClientIdentity;
pub use pem::{Pem, TlsError};
pub use pinned::fetch_ca;
pub use policy::{AllowedNames, ClientCertificates, TlsPolicy, TlsVersion};
pub use server::{ServerTls, ServerTlsSource};

/// Application protocols offered on ports that speak HTTP.
pub(crate) const ALPN_HTTP: [&[u8]; 2] = [b"h2", b"http/1.1"];

#[cfg(test)]
mod tests;
