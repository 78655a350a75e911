//! First contact: finding a server's CA when only its hash is known.
//!
//! A join token pins the SHA-256 of the CA certificate. The server shows its CA behind its own certificate; the handshake is
//! accepted only when the shown CA has the pinned hash and has signed the server's certificate, so nobody in between can answer.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::pem::{TlsError, provider};

/// Returns the CA certificate (DER) of the server at `host:port` whose SHA-256 is `pin` (hex).
///
/// # Errors
/// When the server cannot be reached, or is not of the cluster that the pin names.
pub async fn fetch_ca(host: &str, port: u16, pin: &str) -> Result<CertificateDer<'static>, TlsError> {
    let verifier = Arc::new(PinnedCa {
        pin: pin.to_ascii_lowercase(),
        algorithms: provider().signature_verification_algorithms,
        found: Mutex::new(None),
    });
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<PinnedCa>::clone(&verifier))
        .with_no_client_auth();
    let name =
        ServerName::try_from(host.to_owned()).map_err(|_invalid| TlsError::Address(host.to_owned()))?;
    let server = format!("{host}:{port}");
    let failed = |source: io::Error| match source.get_ref().and_then(|cause| cause.downcast_ref()) {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            TlsError::OtherCluster { server: server.clone() }
        }
        Some(_) | None => TlsError::Unreachable { server: server.clone(), source },
    };
    let stream = TcpStream::connect((host, port)).await.map_err(failed)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(failed)?;
    let found = verifier.found.lock().unwrap_or_else(PoisonError::into_inner).take();
    found.ok_or_else(|| TlsError::Address(host.to_owned()))
}

#[derive(Debug)]
struct PinnedCa {
    pin: String,
    algorithms: WebPkiSupportedAlgorithms,
    found: Mutex<Option<CertificateDer<'static>>>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_pinned = |shown: &&CertificateDer<'_>| hex::encode(Sha256::digest(shown)) == self.pin;
        let ca = intermediates
            .iter()
            .find(is_pinned)
            .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        let verified =
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(ca.clone().into_owned());
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
