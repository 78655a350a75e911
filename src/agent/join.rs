//! How a machine gets its identity: with a token once, from its data directory ever after.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use apiserver::pki::JoinToken;
use base64::Engine;
use client::{ApiError, Client, ClientConfig, JoinRequest};
use rcgen::{CertificateParams, DnType, KeyPair};
use transport::tls::{ClientIdentity, Pem, TlsError, fetch_ca};

use crate::files::write_secret;
use crate::outcome::Usage;

/// The files of a node's identity.
struct Files {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

/// Returns the node's identity, joining with the token when the directory holds none.
///
/// # Errors
/// [`Usage`] when a token is needed and missing, malformed, expired or of another cluster.
pub async fn identity(
    directory: &Path,
    node_name: &str,
    servers: &[String],
    token: Option<&str>,
) -> Result<ClientIdentity> {
    let files = Files {
        ca: directory.join("ca.pem"),
        certificate: directory.join("node.pem"),
        key: directory.join("node.key"),
    };
    if !files.certificate.exists() {
        join(directory, &files, node_name, servers, token).await?;
    }
    let identity = ClientIdentity::from_files(&files.ca, &files.certificate, &files.key);
    identity.with_context(|| format!("the identity in {} cannot be used", directory.display()))
}

async fn join(
    directory: &Path,
    files: &Files,
    node_name: &str,
    servers: &[String],
    token: Option<&str>,
) -> Result<()> {
    let missing = || {
        Usage("a node joins with a token: make one with `keelson token create` and give --token".to_owned())
    };
    let text = token.ok_or_else(missing)?;
    let token: JoinToken = text.parse().map_err(|error| Usage(format!("--token: {error}")))?;
    let ca_pem = find_ca(servers, &token.ca_pin).await?;

    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node_name}"));
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    let csr_pem = params.serialize_request(&key)?.pem()?;

    let tls = ClientIdentity::anonymous(Pem::from(ca_pem.clone()))?;
    let config = ClientConfig { servers: servers.to_vec(), tls, user_agent: "keelson-join".to_owned() };
    let request = JoinRequest { token: text.to_owned(), node_name: node_name.to_owned(), csr_pem };
    let joined = Client::new(config)?.join_agent(request).await;
    let joined = joined.map_err(refusal)?;

    fs::create_dir_all(directory)?;
    write_secret(&files.key, key.serialize_pem().as_bytes())?;
    write_secret(&files.ca, ca_pem.as_bytes())?;
    // Written last: its presence says that the identity is whole.
    write_secret(&files.certificate, joined.certificate_pem.as_bytes())
}

/// A bad token is the caller's to mend; everything else is a failure of the world.
fn refusal(error: ApiError) -> anyhow::Error {
    if matches!(error, ApiError::Unauthorized(_) | ApiError::Forbidden(_)) {
        return Usage(error.to_string()).into();
    }
    anyhow::Error::from(error).context("cannot join the cluster")
}

/// Asks the servers in turn for the CA that the token pins.
async fn find_ca(servers: &[String], pin: &str) -> Result<String> {
    let mut last = None;
    for server in servers {
        let bad = || Usage(format!("--server {server:?} is not an address such as https://host:6443"));
        let uri: http::Uri = server.parse().map_err(|_invalid| bad())?;
        let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else { return Err(bad().into()) };
        match fetch_ca(host, port, pin).await {
            Ok(der) => return Ok(pem(der.as_ref())),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error @ TlsError::OtherCluster { .. }) => Err(Usage(format!(
            "--token: {error}; make one there with `keelson token create`, or mend --server"
        ))
        .into()),
        Some(error) => Err(anyhow::Error::from(error).context("no server of this cluster answers")),
        None => Err(Usage("no --server was given".to_owned()).into()),
    }
}

/// Wraps a certificate as PEM (RFC 7468).
fn pem(der: &[u8]) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for (position, character) in body.chars().enumerate() {
        if position > 0 && position % 64 == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str("\n-----END CERTIFICATE-----\n");
    text
}
