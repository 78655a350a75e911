//! TLS identities that can be replaced while connections are open.
//!
//! Both sides hold their rustls configuration behind an `ArcSwap`: [`ServerTls::reload`] and
//! [`ClientIdentity::reload`] read the files again, and every connection made from then on uses the result. A failed
//! reload changes nothing. Only aws-lc-rs is used, named explicitly, so nothing here depends on process-wide state.

mod client;
mod pem;
mod pinned;
mod server;

pub use client::ClientIdentity;
pub use pem::{Pem, TlsError};
pub use pinned::fetch_ca;
pub use server::{ServerTls, ServerTlsSource};

/// Application protocols offered on ports that speak HTTP.
pub(crate) const ALPN_HTTP: [&[u8]; 2] = [b"h2", b"http/1.1"];

#[cfg(test)]
mod tests;
