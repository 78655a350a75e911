//! The server side of TLS: our certificate, and whose client certificates we accept.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;

use super::ALPN_HTTP;
use super::pem::{Pem, TlsError, certificates, private_key, provider, roots};

/// What a server's TLS is built from.
#[derive(Clone, Debug)]
pub struct ServerTlsSource {
    pub certificate: Pem,
    pub key: Pem,
    /// Signers of client certificates. A certificate stays optional, because bearer tokens share the port; one that
    /// is shown but not signed by these ends the handshake. `None` asks for no certificate.
    pub client_ca: Option<Pem>,
}

/// A server's TLS configuration that can be reloaded while serving.
#[derive(Clone)]
pub struct ServerTls {
    source: Arc<ServerTlsSource>,
    current: Arc<ArcSwap<ServerConfig>>,
}

impl ServerTls {
    /// Builds the configuration.
    ///
    /// # Errors
    /// Anything that keeps certificate, key or client CA from being used.
    pub fn new(source: ServerTlsSource) -> Result<Self, TlsError> {
        let config = build(&source)?;
        Ok(Self { source: Arc::new(source), current: Arc::new(ArcSwap::from_pointee(config)) })
    }

    /// Returns the configuration for the next connection.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Reads the source again and uses it for connections from now on.
    ///
    /// # Errors
    /// As [`ServerTls::new`]; the present configuration then stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current.store(Arc::new(build(&self.source)?));
        Ok(())
    }
}

fn build(source: &ServerTlsSource) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match &source.client_ca {
        Some(client_ca) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(
                roots(client_ca, "client CA bundle")?,
                provider(),
            )
            .allow_unauthenticated()
            .build()?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(
        certificates(&source.certificate, "server certificate")?,
        private_key(&source.key, "server key")?,
    )?;
    config.alpn_protocols = ALPN_HTTP.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}
