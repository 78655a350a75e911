//! `keelson server`: one store member, the API server on top of it, and, where it leads, controllers and scheduler.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use apiserver::ServiceRanges;
use apiserver::pki::{Bundle, Issued, MEMBERS, ServerNames};
use client::{Client, ClientConfig};
use controllers::metrics::LeaderStatus;
use nodeagent::network::Ipv4Net;
use prometheus_client::registry::Registry;
use store::Member;
use store::cli::CliError;
use store::config::{InitialMember, Timing};
use store::etcd::{self, Edge, EtcdOptions};
use store::level::{Level, Levels};
use store::net::PeerTls;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;
use transport::tls::{
    AllowedNames, ClientCertificates, ClientIdentity, Pem, ServerTls, ServerTlsSource, TlsPolicy,
};

use crate::outcome::Usage;
use crate::telemetry;
use crate::wiring::store_error;

/// How long controllers and scheduler may take to give up their locks.
const LOOPS_GRACE: Duration = Duration::from_secs(3);

/// Settings of one server, as flags and as `up` fills them in.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerArgs {
    /// Holds this server's store.
    #[arg(long)]
    pub data_dir: PathBuf,
    /// Holds the cluster's CA and keys; made when missing.
    #[arg(long)]
    pub pki_dir: PathBuf,
    /// Name of this member, as in --initial-cluster.
    #[arg(long)]
    pub name: String,
    /// Address of the API.
    #[arg(long, default_value = "0.0.0.0:6443")]
    pub listen: SocketAddr,
    /// Address under which nodes and pods reach this server.
    #[arg(long)]
    pub advertise: IpAddr,
    /// Further addresses in the server's certificate.
    #[arg(long, value_delimiter = ',')]
    pub certificate_addresses: Vec<IpAddr>,
    /// Address that the other members connect to.
    #[arg(long)]
    pub listen_peer: SocketAddr,
    /// All members of a new cluster: `name=https://host:port,…`.
    #[arg(long, value_delimiter = ',', value_parser = initial_member)]
    pub initial_cluster: Vec<InitialMemberArg>,
    /// API addresses of all servers, this one first.
    #[arg(long, value_delimiter = ',')]
    pub servers: Vec<String>,
    /// Runs without these parts.
    #[arg(long, value_delimiter = ',', value_enum)]
    pub without: Vec<Part>,
    /// For tests: serves the store's own API at this address, to anybody and without TLS.
    #[arg(long, hide = true)]
    pub listen_store: Option<SocketAddr>,
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Settings that all servers of a cluster share.
#[derive(Clone, Debug, clap::Args)]
pub struct ClusterArgs {
    /// Addresses of pods; each node gets a /24 of it.
    #[arg(long, default_value = "10.244.0.0/16")]
    pub pod_cidr: String,
    /// Addresses of services.
    #[arg(long, default_value = "10.96.0.0/16")]
    pub service_cidr: String,
    /// Silence after which a node counts as not ready, in seconds (upstream's default).
    #[arg(long, default_value_t = 40)]
    pub node_monitor_grace_seconds: u64,
    /// How long pods stay on a node that is not ready, in seconds (upstream's default).
    #[arg(long, default_value_t = 300)]
    pub pod_eviction_seconds: u64,
    /// Silence of the leader after which another member campaigns, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    pub election_timeout_ms: u64,
    /// Highest feature level that the store's members agree on: holds an upgrade back, so that the release before can still be gone
    /// back to.
    #[arg(long, env = "KEELSON_STORE_FEATURE_LEVEL_MAX", value_parser = clap::value_parser!(u32).range(i64::from(Level::FIRST.0)..=i64::from(Level::HIGHEST.0)))]
    pub feature_level_max: Option<u32>,
    /// For tests: pause of every controller between a decision and its writes, in milliseconds, so that a leader can be stopped in
    /// between; `controller_commits_delayed` counts who pauses.
    #[arg(long, default_value_t = 0, hide = true)]
    pub controllers_commit_delay_ms: u64,
}

/// Parts of a server that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    Controllers,
    Scheduler,
}

/// A member as `--initial-cluster` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMemberArg {
    pub name: String,
    pub peer_url: String,
}

fn initial_member(text: &str) -> Result<InitialMemberArg, String> {
    let (name, peer_url) = text.split_once('=').ok_or("expected name=https://host:port")?;
    Ok(InitialMemberArg { name: name.to_owned(), peer_url: peer_url.to_owned() })
}

/// Runs a server until SIGTERM or Ctrl-C.
pub fn run(args: &ServerArgs) -> Result<ExitCode> {
    telemetry::start();
    transport::install_crypto();
    crate::runtime()?.block_on(async {
        let shutdown = CancellationToken::new();
        let server = start(args, shutdown.clone()).await?;
        crate::stop_signal().await?;
        info!("stopping");
        shutdown.cancel();
        server.stopped().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// A running server.
pub struct RunningServer {
    pub local_addr: SocketAddr,
    api: apiserver::RunningServer,
    member: Arc<Member>,
    /// Serves the store's own API where a test asked for it.
    store_api: JoinSet<()>,
    loops: JoinSet<Result<()>>,
    stop_api: CancellationToken,
}

impl RunningServer {
    /// Waits until everything has stopped: first who writes, then the API, then the store, which hands its leadership over.
    pub async fn stopped(mut self) {
        let ended = async { while self.loops.join_next().await.is_some() {} };
        // When all servers stop, the last has no quorum to give its locks back to; they expire by themselves.
        if tokio::time::timeout(LOOPS_GRACE, ended).await.is_err() {
            self.loops.shutdown().await;
        }
        self.stop_api.cancel();
        self.api.stopped().await;
        // Watches of the store's own API end with the member; until then they would hold their connections open.
        self.member.stop().await;
        while self.store_api.join_next().await.is_some() {}
    }
}

/// Starts every part of a server; `shutdown` stops them.
///
/// # Errors
/// [`Usage`] for a busy port or a data directory that is not this member's.
pub async fn start(args: &ServerArgs, shutdown: CancellationToken) -> Result<RunningServer> {
    refuse_busy(args.listen)?;
    refuse_busy(args.listen_peer)?;
    args.listen_store.map_or(Ok(()), refuse_busy)?;
    let bundle = Arc::new(Bundle::load_or_create(&args.pki_dir).context("cannot use the cluster's keys")?);
    let member = start_member(args, &bundle).await?;
    let stop_api = CancellationToken::new();
    let store_api = serve_store(args, &member, &stop_api).await?;
    let mut registry = Registry::default();
    let metrics = LoopMetrics::register(&mut registry);
    let config = apiserver::Config {
        listen: args.listen,
        advertise: args.advertise,
        names: server_names(args),
        bundle: Arc::clone(&bundle),
        ranges: service_ranges(&args.cluster.service_cidr)?,
        metrics: Arc::new(registry),
    };
    let kv: Arc<dyn store::kv::Kv> = Arc::<Member>::clone(&member);
    let api = apiserver::Server::start(config, kv, stop_api.clone()).await?;
    let local_addr = api.local_addr;
    let mut loops = JoinSet::new();
    let context = LoopContext { args, bundle: &bundle, local_addr, metrics };
    spawn_loops(&context, &mut loops, &shutdown)?;
    Ok(RunningServer { local_addr, api, member, store_api, loops, stop_api })
}

async fn serve_store(
    args: &ServerArgs,
    member: &Arc<Member>,
    shutdown: &CancellationToken,
) -> Result<JoinSet<()>> {
    let mut serving = JoinSet::new();
    if let Some(address) = args.listen_store {
        let listener = TcpListener::bind(address).await.with_context(|| address.to_string())?;
        let options = EtcdOptions::default();
        serving.spawn(etcd::serve(listener, None, Edge::new(member), options, shutdown.clone()));
    }
    Ok(serving)
}

fn service_ranges(text: &str) -> Result<ServiceRanges> {
    let range: Ipv4Net =
        text.parse().map_err(|_invalid| Usage(format!("--service-cidr {text}: no IPv4 network")))?;
    Ok(ServiceRanges {
        network: range.network(),
        prefix_length: range.prefix_len(),
        ..ServiceRanges::default()
    })
}

/// Says before anything is written that a port is taken.
pub fn refuse_busy(address: SocketAddr) -> Result<()> {
    std::net::TcpListener::bind(address).map(drop).map_err(|error| {
        Usage(format!("cannot listen on {address}: {error}; stop what uses it or choose another port")).into()
    })
}

fn server_names(args: &ServerArgs) -> ServerNames {
    let mut addresses = args.certificate_addresses.clone();
    addresses.extend([args.advertise, IpAddr::from([127, 0, 0, 1])]);
    ServerNames { dns: vec![args.name.clone()], addresses }
}

async fn start_member(args: &ServerArgs, bundle: &Bundle) -> Result<Arc<Member>> {
    let names = ServerNames { dns: vec![args.name.clone()], addresses: vec![args.listen_peer.ip()] };
    let issued = bundle.issue_member(&args.name, &names)?;
    let of_members = AllowedNames::Organization(MEMBERS.to_owned());
    let peer_tls = PeerTls {
        server: ServerTls::new(ServerTlsSource {
            certificate: Pem::from(issued.certificate_pem.clone()),
            key: Pem::from(issued.key_pem.clone()),
            clients: ClientCertificates::Required(Pem::from(bundle.ca_pem().to_owned())),
            policy: TlsPolicy { allowed: Some(of_members.clone()), ..TlsPolicy::default() },
        })?,
        client: client_identity(bundle.ca_pem(), &issued)?,
        called: Some(of_members),
    };
    let members = args
        .initial_cluster
        .iter()
        .map(|member| InitialMember { name: member.name.clone(), peer_urls: vec![member.peer_url.clone()] });
    let config = store::Config {
        initial_cluster: members.collect(),
        advertise_peer_urls: args
            .initial_cluster
            .iter()
            .filter(|member| member.name == args.name)
            .map(|member| member.peer_url.clone())
            .collect(),
        timing: Timing { election_timeout: Duration::from_millis(args.cluster.election_timeout_ms) },
        peer_tls: Some(peer_tls),
        levels: args.cluster.feature_level_max.map_or(Levels::SUPPORTED, |max| Levels::up_to(Level(max))),
        ..store::Config::single(args.data_dir.join("store"), &args.name, &args.listen_peer.to_string())
    };
    // The member outlives the token's cancellation until `stop`, so that the parts above it can finish their writes.
    let member = Member::start(config, CancellationToken::new()).await;
    member.map_err(|error| store_error(CliError::from(error)))
}

/// What controllers and scheduler count; the API server of the same process shows it.
#[derive(Default)]
struct LoopMetrics {
    controllers: controllers::metrics::Metrics,
    scheduler: controllers::scheduler::Metrics,
    leader_status: LeaderStatus,
}

impl LoopMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        metrics.controllers.register(registry);
        metrics.scheduler.register(registry);
        metrics.leader_status.register(registry);
        metrics
    }
}

/// What the loops of a server start with.
struct LoopContext<'a> {
    args: &'a ServerArgs,
    bundle: &'a Bundle,
    local_addr: SocketAddr,
    metrics: LoopMetrics,
}

/// Starts controllers and scheduler, each as a client of this server first and of the others after it.
fn spawn_loops(
    context: &LoopContext<'_>,
    loops: &mut JoinSet<Result<()>>,
    shutdown: &CancellationToken,
) -> Result<()> {
    let LoopContext { args, bundle, local_addr, metrics } = context;
    let mut servers = vec![format!("https://127.0.0.1:{}", local_addr.port())];
    servers
        .extend(args.servers.iter().filter(|server| !servers.contains(server)).cloned().collect::<Vec<_>>());
    // Unique per start, so that a lock says which process holds it.
    let identity = format!("{}_{}", args.name, uuid::Uuid::new_v4());
    if !args.without.contains(&Part::Controllers) {
        let client = component_client(bundle, "system:kube-controller-manager", &servers)?;
        let config = controllers_config(context, &identity);
        let shutdown = shutdown.clone();
        loops.spawn(controllers::run(config, client, shutdown));
    }
    if !args.without.contains(&Part::Scheduler) {
        let client = component_client(bundle, "system:kube-scheduler", &servers)?;
        let seed = u64::from(std::process::id());
        let config = controllers::scheduler::Config {
            metrics: metrics.scheduler.clone(),
            leader_status: metrics.leader_status.clone(),
            ..controllers::scheduler::Config::new(identity, seed)
        };
        let shutdown = shutdown.clone();
        loops.spawn(async move {
            controllers::scheduler::run(config, client, shutdown).await;
            Ok(())
        });
    }
    Ok(())
}

fn controllers_config(context: &LoopContext<'_>, identity: &str) -> controllers::Config {
    let cluster = &context.args.cluster;
    controllers::Config {
        identity: identity.to_owned(),
        cluster_cidr: cluster.pod_cidr.clone(),
        ca_pem: context.bundle.ca_pem().to_owned(),
        node_monitor_grace: Duration::from_secs(cluster.node_monitor_grace_seconds),
        pod_eviction_timeout: Duration::from_secs(cluster.pod_eviction_seconds),
        commit_delay: Duration::from_millis(cluster.controllers_commit_delay_ms),
        metrics: context.metrics.controllers.clone(),
        leader_status: context.metrics.leader_status.clone(),
        ..controllers::Config::default()
    }
}

/// Returns a client that signs in with a certificate of its own.
pub fn component_client(bundle: &Bundle, common_name: &str, servers: &[String]) -> Result<Client> {
    let issued = bundle.issue_client(common_name, None)?;
    let tls = client_identity(bundle.ca_pem(), &issued)?;
    let config = ClientConfig { servers: servers.to_vec(), tls, user_agent: common_name.to_owned() };
    Ok(Client::new(config)?)
}

/// Returns the TLS identity of a certificate that was just issued.
pub fn client_identity(ca_pem: &str, issued: &Issued) -> Result<ClientIdentity> {
    let pem = |text: &str| Pem::from(text.to_owned());
    Ok(ClientIdentity::new(pem(ca_pem), pem(&issued.certificate_pem), pem(&issued.key_pem))?)
}
