//! Flags about where and how clients are served.

use std::time::Duration;

use tokio::net::TcpListener;
use transport::accept::ServeOptions;
use transport::tls::ServerTls;

use super::{CliError, address, duration};
use crate::http::{Access, Allowed};

/// Ports for clients, and what holds on them.
#[derive(Clone, Debug, clap::Args)]
pub struct ServingFlags {
    /// URLs to serve clients on; https ones with the certificate
    #[arg(
        long,
        env = "ETCD_LISTEN_CLIENT_URLS",
        default_value = "http://localhost:2379",
        value_delimiter = ','
    )]
    pub listen_client_urls: Vec<String>,
    /// Further URLs for clients, where HTTP is to have ports of its own
    #[arg(long, env = "ETCD_LISTEN_CLIENT_HTTP_URLS", value_delimiter = ',')]
    pub listen_client_http_urls: Vec<String>,
    /// URLs to serve metrics and health checks on, beside the client URLs; https ones use the client certificate
    #[arg(long, env = "ETCD_LISTEN_METRICS_URLS", value_delimiter = ',')]
    pub listen_metrics_urls: Vec<String>,
    /// How long a connection may be silent before it is asked for a sign of life
    #[arg(long, env = "ETCD_GRPC_KEEPALIVE_INTERVAL", default_value = "30s")]
    pub grpc_keepalive_interval: String,
    /// How long that sign may take before the connection is closed
    #[arg(long, env = "ETCD_GRPC_KEEPALIVE_TIMEOUT", default_value = "20s")]
    pub grpc_keepalive_timeout: String,
    /// Most calls and streams that a connection may have open
    #[arg(long, env = "ETCD_MAX_CONCURRENT_STREAMS", default_value_t = u32::MAX, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_concurrent_streams: u32,
    /// Origins whose pages may call the JSON gateway; * for all, as in etcd
    #[arg(long, env = "ETCD_CORS", default_value = "*", value_delimiter = ',')]
    pub cors: Vec<String>,
    /// Host names that HTTP requests without TLS may be for; * for all
    #[arg(long, env = "ETCD_HOST_WHITELIST", default_value = "*", value_delimiter = ',')]
    pub host_whitelist: Vec<String>,
}

/// A port for clients.
pub(super) struct Port {
    pub(super) listener: TcpListener,
    /// `None` for plain text.
    pub(super) tls: Option<ServerTls>,
}

impl ServingFlags {
    /// Listens for clients, then for those that measure.
    ///
    /// # Errors
    /// [`CliError::Usage`] when a URL or a port cannot be used.
    pub(super) async fn listen(&self, tls: Option<&ServerTls>) -> Result<(Vec<Port>, Vec<Port>), CliError> {
        let clients: Vec<String> =
            self.listen_client_urls.iter().chain(&self.listen_client_http_urls).cloned().collect();
        let ports = listen(&clients, tls, "clients").await?;
        Ok((ports, listen(&self.listen_metrics_urls, tls, "metrics").await?))
    }

    /// # Errors
    /// [`CliError::Usage`] when a duration cannot be read.
    pub(super) fn options(&self) -> Result<ServeOptions, CliError> {
        Ok(ServeOptions {
            keep_alive_interval: some_time("--grpc-keepalive-interval", &self.grpc_keepalive_interval)?,
            keep_alive_timeout: some_time("--grpc-keepalive-timeout", &self.grpc_keepalive_timeout)?,
            streams_max: self.max_concurrent_streams,
            ..ServeOptions::default()
        })
    }

    pub(super) fn access(&self) -> Access {
        Access { origins: Allowed::read(&self.cors), hosts: Allowed::read(&self.host_whitelist) }
    }
}

async fn listen(urls: &[String], tls: Option<&ServerTls>, whom: &str) -> Result<Vec<Port>, CliError> {
    let mut ports = Vec::new();
    for url in urls {
        let address = address(url)?;
        let is_secure = url.starts_with("https://");
        if is_secure && tls.is_none() {
            return Err(CliError::Usage(format!("{url} needs --cert-file and --key-file")));
        }
        let listener = TcpListener::bind(&address)
            .await
            .map_err(|error| CliError::Usage(format!("cannot listen for {whom} on {address}: {error}")))?;
        ports.push(Port { listener, tls: tls.filter(|_| is_secure).cloned() });
    }
    Ok(ports)
}

fn some_time(flag: &str, text: &str) -> Result<Duration, CliError> {
    match duration(flag, text)? {
        Duration::ZERO => Err(CliError::Usage(format!("{flag}={text} must be more than nothing"))),
        time => Ok(time),
    }
}
