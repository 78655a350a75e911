//! The bundle file: made once per cluster, copied to every server, never stored in the cluster itself.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::issue::set_validity;

const FILE_NAME: &str = "cluster.keys";
const FORMAT_VERSION: u32 = 1;
/// The CA outlives every machine; rotating it is a migration of its own.
const CA_DAYS: i64 = 3_650;

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("cannot access {path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path} is no key bundle of this program: {reason}")]
    Format { path: PathBuf, reason: String },
    #[error("{path} has bundle format {found}; this version reads {FORMAT_VERSION}")]
    Version { path: PathBuf, found: u32 },
    #[error("certificate work failed")]
    Certificate(#[from] rcgen::Error),
    #[error("the signing key cannot be used: {0}")]
    SigningKey(String),
    #[error("the certificate request is refused: {0}")]
    Request(String),
}

/// Every secret of a cluster that is not in its store.
#[derive(Clone, Serialize, Deserialize)]
pub struct Bundle {
    version: u32,
    pub(super) ca_certificate_pem: String,
    pub(super) ca_key_pem: String,
    /// EC P-256; signs service-account tokens (ES256).
    pub(super) token_key_pem: String,
    /// Authenticates join tokens.
    pub(super) join_secret_hex: String,
}

impl std::fmt::Debug for Bundle {
    /// Keeps keys out of logs.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Bundle").field("ca", &self.ca_pin()).finish_non_exhaustive()
    }
}

impl Bundle {
    /// Makes the keys of a new cluster.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn generate() -> Result<Self, PkiError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "keelson-ca");
        set_validity(&mut params, CA_DAYS);
        let ca_key = KeyPair::generate()?;
        let ca = params.self_signed(&ca_key)?;
        let secret = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].map(|part| hex::encode(part.as_bytes()));
        Ok(Self {
            version: FORMAT_VERSION,
            ca_certificate_pem: ca.pem(),
            ca_key_pem: ca_key.serialize_pem(),
            token_key_pem: KeyPair::generate()?.serialize_pem(),
            join_secret_hex: secret.concat(),
        })
    }

    /// Reads `dir/cluster.keys`, or makes a new cluster's keys there (mode 0600) when it is absent.
    ///
    /// # Errors
    /// A file that is there but cannot be read is never replaced.
    pub fn load_or_create(dir: &Path) -> Result<Self, PkiError> {
        let path = dir.join(FILE_NAME);
        match std::fs::read(&path) {
            Ok(bytes) => Self::parse(&bytes, &path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let bundle = Self::generate()?;
                bundle.save(dir)?;
                // Another process may have been first: what the file says counts.
                let bytes =
                    std::fs::read(&path).map_err(|source| PkiError::File { path: path.clone(), source })?;
                Self::parse(&bytes, &path)
            }
            Err(source) => Err(PkiError::File { path, source }),
        }
    }

    /// Writes the bundle to `dir/cluster.keys` unless a file is there: this is how further servers get it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), PkiError> {
        let path = dir.join(FILE_NAME);
        let temporary = dir.join(format!("{FILE_NAME}.{}", uuid::Uuid::new_v4()));
        let write = || {
            std::fs::create_dir_all(dir)?;
            let mut file =
                std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(&self.to_bytes())?;
            file.sync_all()?;
            let linked = match std::fs::hard_link(&temporary, &path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
                other => other,
            };
            std::fs::remove_file(&temporary)?;
            linked?;
            std::fs::File::open(dir)?.sync_all()
        };
        write().map_err(|source| PkiError::File { path: path.clone(), source })
    }

    /// Returns the file's content.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("strings and a number always serialize")
    }

    fn parse(bytes: &[u8], path: &Path) -> Result<Self, PkiError> {
        #[derive(Deserialize)]
        struct Header {
            version: u32,
        }
        let broken =
            |error: serde_json::Error| PkiError::Format { path: path.to_owned(), reason: error.to_string() };
        let header: Header = serde_json::from_slice(bytes).map_err(broken)?;
        if header.version != FORMAT_VERSION {
            return Err(PkiError::Version { path: path.to_owned(), found: header.version });
        }
        serde_json::from_slice(bytes).map_err(broken)
    }

    /// Returns the CA certificate, which is public.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_certificate_pem
    }

    /// Returns the SHA-256 of the CA certificate's PEM body (DER) in hex; a join token pins it.
    #[must_use]
    pub fn ca_pin(&self) -> String {
        pin_of(&self.ca_certificate_pem)
    }
}

/// Returns the pin of a CA certificate in PEM.
pub(super) fn pin_of(ca_pem: &str) -> String {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    let der = CertificateDer::from_pem_slice(ca_pem.as_bytes());
    der.map(|der| hex::encode(Sha256::digest(&der))).unwrap_or_default()
}
