//! Flags about certificates, and what they make.

use std::path::PathBuf;

use clap::ArgAction;
use rustls_pki_types::ServerName;
use transport::tls::{
    AllowedNames, ClientCertificates, ClientIdentity, Pem, ServerTls, ServerTlsSource, TlsPolicy, TlsVersion,
};

use super::CliError;
use crate::env::error_chain;
use crate::net::PeerTls;

/// Certificates of clients and of members; changed files are read again while the member serves.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TlsFlags {
    /// Certificate for clients to see
    #[arg(long, env = "ETCD_CERT_FILE", requires = "key_file")]
    pub cert_file: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, env = "ETCD_KEY_FILE", requires = "cert_file")]
    pub key_file: Option<PathBuf>,
    /// Signers of client certificates; who shows none of theirs is not let in
    #[arg(long, env = "ETCD_TRUSTED_CA_FILE", requires = "cert_file")]
    pub trusted_ca_file: Option<PathBuf>,
    /// A client that shows no token is the user whom its certificate names
    #[arg(long, env = "ETCD_CLIENT_CERT_AUTH", requires_if("true", "trusted_ca_file"), num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = ArgAction::Set)]
    pub client_cert_auth: bool,
    /// Client certificates that were taken back
    #[arg(long, env = "ETCD_CLIENT_CRL_FILE", requires = "trusted_ca_file")]
    pub client_crl_file: Option<PathBuf>,
    /// Host that a client's certificate must be good for
    #[arg(
        long,
        env = "ETCD_CLIENT_CERT_ALLOWED_HOSTNAME",
        requires = "trusted_ca_file",
        value_delimiter = ','
    )]
    pub client_cert_allowed_hostname: Vec<String>,
    /// Certificate for other members to see
    #[arg(long, env = "ETCD_PEER_CERT_FILE", requires_all = ["peer_key_file", "peer_trusted_ca_file"])]
    pub peer_cert_file: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, env = "ETCD_PEER_KEY_FILE", requires = "peer_cert_file")]
    pub peer_key_file: Option<PathBuf>,
    /// Certificate to show to members that are called; the other one unless given
    #[arg(long, env = "ETCD_PEER_CLIENT_CERT_FILE", requires_all = ["peer_client_key_file", "peer_cert_file"])]
    pub peer_client_cert_file: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, env = "ETCD_PEER_CLIENT_KEY_FILE", requires = "peer_client_cert_file")]
    pub peer_client_key_file: Option<PathBuf>,
    /// Signers of member certificates
    #[arg(long, env = "ETCD_PEER_TRUSTED_CA_FILE", requires = "peer_cert_file")]
    pub peer_trusted_ca_file: Option<PathBuf>,
    /// Member certificates that were taken back
    #[arg(long, env = "ETCD_PEER_CRL_FILE", requires = "peer_trusted_ca_file")]
    pub peer_crl_file: Option<PathBuf>,
    /// Common names, one of which a member's certificate must have
    #[arg(long, env = "ETCD_PEER_CERT_ALLOWED_CN", requires = "peer_trusted_ca_file", value_delimiter = ',')]
    pub peer_cert_allowed_cn: Vec<String>,
    /// Hosts, for one of which a member's certificate must be good
    #[arg(
        long,
        env = "ETCD_PEER_CERT_ALLOWED_HOSTNAME",
        requires = "peer_trusted_ca_file",
        conflicts_with = "peer_cert_allowed_cn",
        value_delimiter = ','
    )]
    pub peer_cert_allowed_hostname: Vec<String>,
    /// Lowest version of TLS
    #[arg(long, env = "ETCD_TLS_MIN_VERSION", value_enum, default_value = "TLS1.2")]
    pub tls_min_version: Version,
    /// Highest version of TLS; the highest that there is unless given
    #[arg(long, env = "ETCD_TLS_MAX_VERSION", value_enum)]
    pub tls_max_version: Option<Version>,
    /// Cipher suites of TLS 1.2, by their IANA names
    #[arg(long, env = "ETCD_CIPHER_SUITES", value_delimiter = ',')]
    pub cipher_suites: Vec<String>,
}

/// etcd's names of versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Version {
    #[default]
    #[value(name = "TLS1.2")]
    Tls12,
    #[value(name = "TLS1.3")]
    Tls13,
}

impl From<Version> for TlsVersion {
    fn from(version: Version) -> Self {
        match version {
            Version::Tls12 => Self::Tls12,
            Version::Tls13 => Self::Tls13,
        }
    }
}

impl TlsFlags {
    /// Returns what clients see.
    ///
    /// # Errors
    /// [`CliError::Usage`] when files or flags cannot be used.
    pub(super) fn of_clients(&self) -> Result<Option<ServerTls>, CliError> {
        let (Some(certificate), Some(key)) = (&self.cert_file, &self.key_file) else { return Ok(None) };
        let clients = match &self.trusted_ca_file {
            Some(signers) => ClientCertificates::Required(Pem::File(signers.clone())),
            None => ClientCertificates::Unasked,
        };
        let policy = TlsPolicy {
            revoked: self.client_crl_file.clone().map(Pem::File),
            allowed: hosts("--client-cert-allowed-hostname", &self.client_cert_allowed_hostname)?,
            ..self.policy()?
        };
        let source = ServerTlsSource {
            certificate: Pem::File(certificate.clone()),
            key: Pem::File(key.clone()),
            clients,
            policy,
        };
        server(source).map(Some)
    }

    /// Returns what members see of each other.
    ///
    /// # Errors
    /// [`CliError::Usage`] when files or flags cannot be used.
    pub(super) fn of_members(&self) -> Result<Option<PeerTls>, CliError> {
        let (Some(certificate), Some(key), Some(ca)) =
            (&self.peer_cert_file, &self.peer_key_file, &self.peer_trusted_ca_file)
        else {
            return Ok(None);
        };
        let (shown, shown_key) = match (&self.peer_client_cert_file, &self.peer_client_key_file) {
            (Some(certificate), Some(key)) => (certificate, key),
            (None, _) | (_, None) => (certificate, key),
        };
        let client = ClientIdentity::from_files(ca, shown, shown_key)
            .map_err(|error| CliError::Usage(format!("peer certificate: {}", error_chain(&error))))?;
        let names = self.peer_cert_allowed_cn.clone();
        // Unless it is said, this CA signs members only, as with etcd.
        let allowed = match hosts("--peer-cert-allowed-hostname", &self.peer_cert_allowed_hostname)? {
            None if !names.is_empty() => Some(AllowedNames::CommonNames(names)),
            allowed => allowed,
        };
        let policy = TlsPolicy {
            revoked: self.peer_crl_file.clone().map(Pem::File),
            allowed: allowed.clone(),
            ..self.policy()?
        };
        let server = server(ServerTlsSource {
            certificate: Pem::File(certificate.clone()),
            key: Pem::File(key.clone()),
            clients: ClientCertificates::Required(Pem::File(ca.clone())),
            policy,
        })?;
        Ok(Some(PeerTls { server, client, called: allowed }))
    }

    fn policy(&self) -> Result<TlsPolicy, CliError> {
        let (min, max) = (self.tls_min_version.into(), self.tls_max_version.map(TlsVersion::from));
        if max.is_some_and(|max| max < min) {
            return Err(CliError::Usage("--tls-min-version is above --tls-max-version".to_owned()));
        }
        if min == TlsVersion::Tls13 && !self.cipher_suites.is_empty() {
            return Err(CliError::Usage("--cipher-suites chooses among those of TLS 1.2 only".to_owned()));
        }
        Ok(TlsPolicy {
            version_min: Some(min),
            version_max: max,
            cipher_suites: self.cipher_suites.clone(),
            ..TlsPolicy::default()
        })
    }
}

fn hosts(flag: &str, hosts: &[String]) -> Result<Option<AllowedNames>, CliError> {
    match hosts.iter().find(|host| ServerName::try_from(host.as_str()).is_err()) {
        Some(host) => Err(CliError::Usage(format!("{flag}={host} is neither a host name nor an address"))),
        None if hosts.is_empty() => Ok(None),
        None => Ok(Some(AllowedNames::Hosts(hosts.to_vec()))),
    }
}

fn server(source: ServerTlsSource) -> Result<ServerTls, CliError> {
    ServerTls::new(source).map_err(|error| CliError::Usage(format!("certificate: {}", error_chain(&error))))
}
