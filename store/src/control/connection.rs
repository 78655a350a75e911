//! A connection to a member that answers, as a user who may have to prove itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::etcdserverpb as pb;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use crate::cli::{CliError, address};
use crate::env::error_chain;

/// How long a connection may take to come about.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two signs of life on a quiet connection, and how long the second may take.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long an answer may take; longer than any member takes to give up.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Whom to ask, and as whom: etcdctl's flags and variables.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConnectionArgs {
    /// Client URLs of members; the first one that answers is asked
    #[arg(long, env = "ETCDCTL_ENDPOINTS", default_value = "127.0.0.1:2379", value_delimiter = ',')]
    pub endpoints: Vec<String>,
    /// Signers of the members' certificates
    #[arg(long, env = "ETCDCTL_CACERT")]
    pub cacert: Option<PathBuf>,
    /// Certificate to show the members
    #[arg(long, env = "ETCDCTL_CERT", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, env = "ETCDCTL_KEY", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Who asks: name or name:password
    #[arg(long, env = "ETCDCTL_USER")]
    pub user: Option<String>,
    /// The password, where --user has none
    #[arg(long, env = "ETCDCTL_PASSWORD", requires = "user")]
    pub password: Option<String>,
}

/// Where commands go.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) channel: Channel,
    pub(crate) endpoint: String,
    token: Option<MetadataValue<Ascii>>,
}

impl ConnectionArgs {
    /// Connects to the first endpoint that answers.
    ///
    /// # Errors
    /// [`CliError::Usage`] for flags that cannot be used, [`CliError::Failed`] when nobody answers or the user is refused.
    pub(crate) async fn connect(&self) -> Result<Connection, CliError> {
        let tls = self.tls()?;
        let mut dials = Vec::new();
        for given in &self.endpoints {
            let url = self.url(given)?;
            let failed = |error| CliError::Usage(format!("{url}: {}", error_chain(&error)));
            let mut dial = Endpoint::from_shared(url.clone())
                .map_err(failed)?
                .connect_timeout(DIAL_TIMEOUT)
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE);
            if url.starts_with("https://") {
                dial = dial.tls_config(tls.clone()).map_err(failed)?;
            }
            dials.push((url, dial));
        }
        let mut failures = Vec::new();
        for (endpoint, dial) in dials {
            match dial.connect().await {
                Ok(channel) => return self.enter(channel, endpoint).await,
                Err(error) => failures.push(format!("{endpoint}: {}", error_chain(&error))),
            }
        }
        Err(CliError::Failed(format!("no member answers; {}", failures.join("; "))))
    }

    async fn enter(&self, channel: Channel, endpoint: String) -> Result<Connection, CliError> {
        let Some((name, password)) = self.login()? else {
            return Ok(Connection { channel, endpoint, token: None });
        };
        let request = pb::AuthenticateRequest { name, password };
        let answer = pb::auth_client::AuthClient::new(channel.clone()).authenticate(request).await;
        match answer {
            Ok(answer) => {
                let token = answer.into_inner().token.parse();
                let unsendable = |_| CliError::Failed(format!("{endpoint} gave a token that cannot be sent"));
                Ok(Connection { token: Some(token.map_err(unsendable)?), channel, endpoint })
            }
            // As etcdctl: who logs in where nobody has to is let in.
            Err(status) if status.message().contains("authentication is not enabled") => {
                Ok(Connection { channel, endpoint, token: None })
            }
            Err(status) => Err(refused(&endpoint, &status)),
        }
    }

    fn url(&self, given: &str) -> Result<String, CliError> {
        let scheme = if self.cacert.is_some() { "https" } else { "http" };
        let url = if given.contains("://") { given.to_owned() } else { format!("{scheme}://{given}") };
        address(&url)?;
        if url.starts_with("https://") && self.cacert.is_none() {
            return Err(CliError::Usage(format!("{url} needs --cacert")));
        }
        Ok(url)
    }

    fn login(&self) -> Result<Option<(String, String)>, CliError> {
        let Some(user) = &self.user else { return Ok(None) };
        match (user.split_once(':'), &self.password) {
            (_, Some(password)) => Ok(Some((user.clone(), password.clone()))),
            (Some((name, password)), None) => Ok(Some((name.to_owned(), password.to_owned()))),
            (None, None) => {
                Err(CliError::Usage(format!("--user={user} needs a password: --user={user}:...")))
            }
        }
    }

    fn tls(&self) -> Result<ClientTlsConfig, CliError> {
        let mut tls = ClientTlsConfig::new();
        if let Some(ca) = &self.cacert {
            tls = tls.ca_certificate(Certificate::from_pem(read(ca)?));
        }
        if let (Some(certificate), Some(key)) = (&self.cert, &self.key) {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(tls)
    }
}

impl Connection {
    /// Returns a request with what the user proves itself with.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = self.long_request(message);
        request.set_timeout(CALL_TIMEOUT);
        request
    }

    /// Returns the same for a call whose answer may take any time, as long as the connection shows signs of life.
    pub(crate) fn long_request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    /// Returns what a refused call means for the command.
    pub(crate) fn refused(&self, status: &Status) -> CliError {
        refused(&self.endpoint, status)
    }
}

fn refused(endpoint: &str, status: &Status) -> CliError {
    CliError::Failed(format!("{endpoint}: {}", status.message()))
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    fs::read(path).map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_asked_and_as_whom_is_read_from_the_flags() {
        let args = ConnectionArgs { user: Some("root:a:b".to_owned()), ..ConnectionArgs::default() };
        assert_eq!(args.url("127.0.0.1:1").unwrap(), "http://127.0.0.1:1");
        assert_eq!(args.login().unwrap(), Some(("root".to_owned(), "a:b".to_owned())));
        let secure = ConnectionArgs { cacert: Some("ca".into()), ..ConnectionArgs::default() };
        assert_eq!(secure.url("127.0.0.1:1").unwrap(), "https://127.0.0.1:1");
        let refused = |result: Result<_, CliError>| match result {
            Err(CliError::Usage(line)) => line,
            Err(CliError::Failed(_)) | Ok(_) => panic!("not refused as wrong use"),
        };
        assert!(refused(args.url("https://a:1")).contains("needs --cacert"));
        assert!(refused(args.url("nonsense")).contains("is not a URL"));
        let silent = ConnectionArgs { user: Some("root".to_owned()), ..ConnectionArgs::default() };
        assert!(silent.login().unwrap_err().to_string().contains("needs a password"));
    }
}
