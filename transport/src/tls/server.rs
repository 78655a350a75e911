//! The server side of TLS: our certificate, and whose client certificates we accept.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::CertificateDer;

use super::ALPN_HTTP;
use super::fresh::Fresh;
use super::pem::{Pem, TlsError, certificates, private_key, revocations, roots};
use super::policy::{ClientCertificates, TlsPolicy};

/// What a server's TLS is built from.
#[derive(Clone, Debug)]
pub struct ServerTlsSource {
    pub certificate: Pem,
    pub key: Pem,
    pub clients: ClientCertificates,
    pub policy: TlsPolicy,
}

/// A server's TLS configuration. Files that it is built from are read again once they have changed. Clones share one state.
#[derive(Clone)]
pub struct ServerTls {
    current: Arc<Fresh<ServerConfig, ServerTlsSource>>,
}

impl ServerTls {
    /// Builds the configuration.
    ///
    /// # Errors
    /// Anything that keeps certificate, key or client CA from being used.
    pub fn new(source: ServerTlsSource) -> Result<Self, TlsError> {
        Ok(Self { current: Arc::new(Fresh::new(source, pems, build)?) })
    }

    /// Returns the configuration for the next connection.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.current.get()
    }

    /// Says whether a client with these verified certificates, leaf first, is one of those that are taken by name.
    #[must_use]
    pub fn admits(&self, certificates: &[CertificateDer<'_>]) -> bool {
        let allowed = self.current.source().policy.allowed.as_ref();
        allowed.is_none_or(|names| certificates.first().is_some_and(|leaf| names.admit(leaf)))
    }
}

fn pems(source: &ServerTlsSource) -> Vec<Option<&Pem>> {
    let signers = match &source.clients {
        ClientCertificates::Unasked => None,
        ClientCertificates::Optional(signers) | ClientCertificates::Required(signers) => Some(signers),
    };
    vec![Some(&source.certificate), Some(&source.key), signers, source.policy.revoked.as_ref()]
}

fn build(source: &ServerTlsSource) -> Result<ServerConfig, TlsError> {
    let provider = source.policy.provider()?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&source.policy.versions())?;
    let verifier = |signers| {
        let roots = roots(signers, "client CA bundle")?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
        let Some(revoked) = &source.policy.revoked else { return Ok::<_, TlsError>(verifier) };
        // As etcd: what the list does not speak of is not revoked.
        Ok(verifier.with_crls(revocations(revoked)?).allow_unknown_revocation_status())
    };
    let builder = match &source.clients {
        ClientCertificates::Required(signers) => {
            builder.with_client_cert_verifier(verifier(signers)?.build()?)
        }
        ClientCertificates::Optional(signers) => {
            builder.with_client_cert_verifier(verifier(signers)?.allow_unauthenticated().build()?)
        }
        ClientCertificates::Unasked => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(
        certificates(&source.certificate, "server certificate")?,
        private_key(&source.key, "server key")?,
    )?;
    config.alpn_protocols = ALPN_HTTP.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}
