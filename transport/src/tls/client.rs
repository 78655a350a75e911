//! The client side of TLS: whom we trust, and the certificate that says who we are.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;

use super::fresh::Fresh;
use super::pem::{Pem, TlsError, certificates, private_key, provider, roots};

#[derive(Debug)]
struct Source {
    ca: Pem,
    certificate_and_key: Option<(Pem, Pem)>,
}

/// A client's trust and identity. Files that it is built from are read again once they have changed. Clones share one state.
#[derive(Clone)]
pub struct ClientIdentity {
    current: Arc<Fresh<ClientConfig, Source>>,
}

impl std::fmt::Debug for ClientIdentity {
    /// Keeps keys out of logs.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ClientIdentity").finish_non_exhaustive()
    }
}

impl ClientIdentity {
    /// Builds an identity that trusts `ca` and proves itself with `certificate` and `key`.
    ///
    /// # Errors
    /// Anything that keeps the three from being used.
    pub fn new(ca: Pem, certificate: Pem, key: Pem) -> Result<Self, TlsError> {
        Self::build(Source { ca, certificate_and_key: Some((certificate, key)) })
    }

    /// Builds an identity from three files.
    ///
    /// # Errors
    /// As [`ClientIdentity::new`].
    pub fn from_files(
        ca: impl Into<PathBuf>,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, TlsError> {
        Self::new(Pem::File(ca.into()), Pem::File(certificate.into()), Pem::File(key.into()))
    }

    /// Builds a client that trusts `ca` and shows no certificate (a joining agent, a bearer-token user).
    ///
    /// # Errors
    /// When `ca` cannot be used.
    pub fn anonymous(ca: Pem) -> Result<Self, TlsError> {
        Self::build(Source { ca, certificate_and_key: None })
    }

    fn build(source: Source) -> Result<Self, TlsError> {
        Ok(Self { current: Arc::new(Fresh::new(source, pems, config)?) })
    }

    /// Returns the configuration for the next connection; ALPN is left to the caller.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        self.current.get()
    }

    /// Returns the configuration for the next connection, offering `protocols`.
    #[must_use]
    pub fn config_with_alpn(&self, protocols: &[&[u8]]) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.current.get());
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }
}

fn pems(source: &Source) -> Vec<Option<&Pem>> {
    let (certificate, key) =
        source.certificate_and_key.as_ref().map(|(certificate, key)| (certificate, key)).unzip();
    vec![Some(&source.ca), certificate, key]
}

fn config(source: &Source) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(&source.ca, "CA bundle")?);
    match &source.certificate_and_key {
        Some((certificate, key)) => Ok(builder.with_client_auth_cert(
            certificates(certificate, "client certificate")?,
            private_key(key, "client key")?,
        )?),
        None => Ok(builder.with_no_client_auth()),
    }
}
