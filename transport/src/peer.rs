//! Who is at the other end of a connection, as request extension.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The other end of a connection. Every request served by [`crate::accept`] carries it as an extension.
#[derive(Clone, Debug)]
pub struct Peer {
    pub remote_addr: SocketAddr,
    pub local_addr: SocketAddr,
    /// The verified chain, leaf first; empty when the client showed none.
    pub certificates: Arc<[CertificateDer<'static>]>,
}

/// The parts of a certificate's subject that name a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// CN: the user.
    pub common_name: String,
    /// All O: the groups.
    pub organizations: Vec<String>,
}

impl Peer {
    /// Returns the subject of the verified leaf; `None` without a certificate or a readable CN.
    #[must_use]
    pub fn subject(&self) -> Option<Subject> {
        subject_of(self.certificates.first()?)
    }
}

/// Returns the subject of a DER certificate; `None` when it cannot be parsed or has no CN.
#[must_use]
pub fn subject_of(certificate: &[u8]) -> Option<Subject> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let common_name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let organizations =
        subject.iter_organization().filter_map(|name| name.as_str().ok()).map(str::to_owned).collect();
    Some(Subject { common_name, organizations })
}

/// Returns the key that a DER certificate is about, as its algorithm writes it; `None` when it cannot be parsed.
#[must_use]
pub fn public_key_of(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.public_key().subject_public_key.data.to_vec())
}
