//! `keelson store` as a person starts it, in this process.

use std::ffi::OsString;

use clap::Parser;
use proto::etcdserverpb as pb;
use store::cli::{Args, CliError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::{Certificates, Etcdctl, free_port, until};

/// Files of the certificate that lets its owner in and names no user.
pub const GUEST: &str = "guest";

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

pub struct Program {
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), CliError>>,
}

impl Program {
    pub fn start<F: Into<OsString>>(flags: impl IntoIterator<Item = F>) -> Self {
        let words = std::iter::once("store".into()).chain(flags.into_iter().map(Into::into));
        let args = Cli::parse_from(words).args;
        let shutdown = CancellationToken::new();
        Self { running: tokio::spawn(store::cli::run(args, shutdown.clone())), shutdown }
    }

    /// Lets it end; others may be waiting for it meanwhile.
    pub fn end(&self) {
        self.shutdown.cancel();
    }

    pub async fn stop(self) {
        self.end();
        self.running.await.unwrap().unwrap();
    }
}

/// A cluster that takes connections with TLS only: of clients, whose certificates name users, and of members, who know each other by
/// certificates of the same authority.
pub struct Secured {
    pub certificates: Certificates,
    /// `host:port` of each member.
    pub endpoints: Vec<String>,
    members: Vec<Program>,
    _data: tempfile::TempDir,
}

impl Secured {
    pub async fn start(count: usize) -> Self {
        let certificates = Certificates::new();
        certificates.issue("member");
        certificates.issue_nameless(GUEST);
        let data = tempfile::tempdir().unwrap();
        let ports: Vec<(u16, u16)> = (0..count).map(|_| (free_port(), free_port())).collect();
        let secure = |port: u16| format!("https://127.0.0.1:{port}");
        let numbered = || ports.iter().enumerate();
        let cluster: Vec<String> =
            numbered().map(|(number, (_, peer))| format!("m{number}={}", secure(*peer))).collect();
        let file = |name: &str| certificates.file(name).display().to_string();
        let members = numbered().map(|(number, (client, peer))| {
            Program::start([
                format!("--name=m{number}"),
                format!("--data-dir={}", data.path().join(format!("m{number}")).display()),
                format!("--listen-client-urls={}", secure(*client)),
                format!("--listen-peer-urls={}", secure(*peer)),
                format!("--initial-cluster={}", cluster.join(",")),
                format!("--cert-file={}", file("member.crt")),
                format!("--key-file={}", file("member.key")),
                format!("--trusted-ca-file={}", file("ca.crt")),
                "--client-cert-auth".to_owned(),
                format!("--peer-cert-file={}", file("member.crt")),
                format!("--peer-key-file={}", file("member.key")),
                format!("--peer-trusted-ca-file={}", file("ca.crt")),
                "--bcrypt-cost=4".to_owned(),
            ])
        });
        let members = members.collect();
        let endpoints = ports.iter().map(|(client, _)| format!("127.0.0.1:{client}")).collect();
        let secured = Self { certificates, endpoints, members, _data: data };
        for number in 0..count {
            until("a member that serves", async || secured.is_served(number).await.then_some(())).await;
        }
        secured
    }

    async fn is_served(&self, number: usize) -> bool {
        let Ok(channel) = self.channel(number).connect().await else { return false };
        let range = pb::RangeRequest { key: "any".into(), ..pb::RangeRequest::default() };
        pb::kv_client::KvClient::new(channel).range(range).await.is_ok()
    }

    /// Returns the way to a member for somebody whose certificate names no user.
    fn channel(&self, number: usize) -> Endpoint {
        let text = |end: &str| self.certificates.text(&format!("{GUEST}.{end}"));
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.certificates.text("ca.crt")))
            .identity(Identity::from_pem(text("crt"), text("key")));
        let endpoint = Channel::from_shared(format!("https://{}", self.endpoints[number])).unwrap();
        endpoint.tls_config(tls).unwrap()
    }

    /// Returns etcdctl for all members, which shows the certificate that `name` was issued.
    pub fn etcdctl(&self, name: &str) -> Etcdctl {
        let cacert = format!("--cacert={}", self.certificates.file("ca.crt").display());
        Etcdctl::at(&self.endpoints.join(",")).with(&[cacert]).with(&self.shown(name))
    }

    fn shown(&self, name: &str) -> [String; 2] {
        ["cert", "key"].map(|flag| {
            let end = flag.replace("cert", "crt");
            format!("--{flag}={}", self.certificates.file(&format!("{name}.{end}")).display())
        })
    }

    pub async fn stop(self) {
        self.members.iter().for_each(Program::end);
        for member in self.members {
            member.stop().await;
        }
    }
}
