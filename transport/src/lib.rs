//! How bytes reach us and leave us: TLS whose certificates are renewed while it serves, the accept loop, gRPC channels, WebSocket and SPDY framing.
//!
//! A leaf crate that knows nothing of Kubernetes objects or of the store. Reading order: [`tls`] (who we are and whom
//! we trust), [`accept`] (one port for HTTP/1.1, HTTP/2 and gRPC), [`traffic`] (what goes over it), [`grpc`] (outgoing channels), then the two stream
//! protocols of kubectl's exec and attach: [`websocket`] and [`spdy`]. Beside them, [`outside`]: the time of day and chance.

pub mod accept;
pub mod grpc;
pub mod outside;
pub mod peer;
pub mod spdy;
pub mod tls;
pub mod traffic;
pub mod websocket;

/// Makes aws-lc-rs the process-wide TLS provider; call it first in every `main` and test. Further calls do nothing.
pub fn install_crypto() {
    // An error only says that a provider is installed already; ours is the only one in the build.
    let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
