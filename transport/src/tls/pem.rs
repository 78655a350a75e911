//! PEM text from memory or from files, parsed into what rustls takes.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{what} is not valid PEM: {reason}")]
    Pem { what: &'static str, reason: String },
    #[error("{what} holds no certificate")]
    NoCertificate { what: &'static str },
    #[error("TLS configuration refused")]
    Config(#[from] rustls::Error),
    #[error("client certificate verifier refused")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("there is no cipher suite {name} to choose; there are {known}")]
    CipherSuite { name: String, known: String },
    #[error("{0:?} is not a server address such as https://host:6443")]
    Address(String),
    #[error("cannot reach {server}")]
    Unreachable { server: String, source: std::io::Error },
    #[error("{server} is not of the cluster that the token names")]
    OtherCluster { server: String },
}

/// Where PEM text comes from.
#[derive(Clone, Debug)]
pub enum Pem {
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Pem {
    /// Returns the text, reading the file now.
    ///
    /// # Errors
    /// [`TlsError::Read`] with the path.
    pub fn load(&self) -> Result<Vec<u8>, TlsError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::File(path) => {
                std::fs::read(path).map_err(|source| TlsError::Read { path: path.clone(), source })
            }
        }
    }

    /// Returns the file, if it comes from one.
    pub(super) fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Bytes(_) => None,
            Self::File(path) => Some(path.clone()),
        }
    }
}

impl From<PathBuf> for Pem {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<String> for Pem {
    fn from(text: String) -> Self {
        Self::Bytes(text.into_bytes())
    }
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

pub(super) fn certificates(pem: &Pem, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = pem.load()?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = parsed.map_err(|error| TlsError::Pem { what, reason: error.to_string() })?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate { what });
    }
    Ok(certificates)
}

pub(super) fn private_key(pem: &Pem, what: &'static str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&pem.load()?)
        .map_err(|error| TlsError::Pem { what, reason: error.to_string() })
}

/// Reads lists of revoked certificates: PEM, or one as DER.
pub(super) fn revocations(pem: &Pem) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let text = pem.load()?;
    let parsed: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&text).collect();
    let lists = parsed
        .map_err(|error| TlsError::Pem { what: "list of revoked certificates", reason: error.to_string() })?;
    if lists.is_empty() {
        return Ok(vec![CertificateRevocationListDer::from(text)]);
    }
    Ok(lists)
}

pub(super) fn roots(pem: &Pem, what: &'static str) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem, what)? {
        store.add(certificate)?;
    }
    Ok(Arc::new(store))
}
