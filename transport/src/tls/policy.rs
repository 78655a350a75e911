//! What a server asks of a connection beside certificates of the right signer.

use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName};

use super::pem::{Pem, TlsError, provider};
use crate::peer::subject_of;

/// Which clients a server takes by their certificates.
#[derive(Clone, Debug)]
pub enum ClientCertificates {
    /// None is asked for.
    Unasked,
    /// Bearer tokens share the port. A certificate that is shown but not signed by these ends the handshake.
    Optional(Pem),
    /// Who shows none that these have signed is not let in.
    Required(Pem),
}

/// Whose certificates are taken, of all that the signers signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedNames {
    /// One of these is the subject's CN.
    CommonNames(Vec<String>),
    /// The certificate is good for one of these hosts.
    Hosts(Vec<String>),
    /// This is one of the subject's O.
    Organization(String),
}

impl AllowedNames {
    /// Says whether a certificate is one of those.
    #[must_use]
    pub fn admit(&self, certificate: &CertificateDer<'_>) -> bool {
        let subject = subject_of(certificate);
        match self {
            Self::CommonNames(names) => subject.is_some_and(|subject| names.contains(&subject.common_name)),
            Self::Organization(name) => subject.is_some_and(|subject| subject.organizations.contains(name)),
            Self::Hosts(hosts) => ParsedCertificate::try_from(certificate).is_ok_and(|certificate| {
                let names = hosts.iter().filter_map(|host| ServerName::try_from(host.as_str()).ok());
                names.into_iter().any(|name| verify_server_name(&certificate, &name).is_ok())
            }),
        }
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

/// Limits of a server; by default none but those of the library.
#[derive(Clone, Debug, Default)]
pub struct TlsPolicy {
    /// Certificates that their signer has taken back.
    pub revoked: Option<Pem>,
    pub allowed: Option<AllowedNames>,
    pub version_min: Option<TlsVersion>,
    pub version_max: Option<TlsVersion>,
    /// Suites of TLS 1.2 by their IANA names; all that the library has where it is empty. Those of 1.3 are not chosen.
    pub cipher_suites: Vec<String>,
}

impl TlsPolicy {
    pub(super) fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let (min, max) =
            (self.version_min.unwrap_or(TlsVersion::Tls12), self.version_max.unwrap_or(TlsVersion::Tls13));
        let all =
            [(TlsVersion::Tls12, &rustls::version::TLS12), (TlsVersion::Tls13, &rustls::version::TLS13)];
        all.into_iter()
            .filter(|(version, _)| (min..=max).contains(version))
            .map(|(_, version)| version)
            .collect()
    }

    /// Returns what to encrypt with.
    ///
    /// # Errors
    /// [`TlsError::CipherSuite`] for a name that the library does not have.
    pub(super) fn provider(&self) -> Result<Arc<CryptoProvider>, TlsError> {
        let all = provider();
        if self.cipher_suites.is_empty() {
            return Ok(all);
        }
        let choosable = || all.cipher_suites.iter().filter(|suite| is_of_tls12(suite));
        for name in &self.cipher_suites {
            if !choosable().any(|suite| name_of(suite) == *name) {
                let known: Vec<String> = choosable().map(name_of).collect();
                return Err(TlsError::CipherSuite { name: name.clone(), known: known.join(", ") });
            }
        }
        let is_chosen = |suite: &&SupportedCipherSuite| {
            !is_of_tls12(suite) || self.cipher_suites.contains(&name_of(suite))
        };
        let cipher_suites = all.cipher_suites.iter().filter(is_chosen).copied().collect();
        Ok(Arc::new(CryptoProvider { cipher_suites, ..CryptoProvider::clone(&all) }))
    }
}

fn is_of_tls12(suite: &SupportedCipherSuite) -> bool {
    suite.version().version == ProtocolVersion::TLSv1_2
}

fn name_of(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite())
}
