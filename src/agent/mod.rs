//! `keelson agent`: one node (or many hollow ones) as a client of the servers.

mod join;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use nodeagent::network::ClusterId;
use nodeagent::{Agent, Config, Connection, RuntimeChoice};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::outcome::Usage;
use crate::telemetry;

/// How long a hollow node's container takes to start: about what containerd takes.
const HOLLOW_START: Duration = Duration::from_millis(200);

/// Settings of an agent.
#[derive(Clone, Debug, clap::Args)]
pub struct AgentArgs {
    /// Holds the node's identity, its containerd and its pods.
    #[arg(long)]
    pub data_dir: PathBuf,
    /// Data directory of the cluster when it is one of this machine; names of links and tables derive from it.
    #[arg(long)]
    pub cluster_dir: Option<PathBuf>,
    /// Name of the node; the host's name by default.
    #[arg(long)]
    pub node_name: Option<String>,
    /// Address of the node; that of the default route's device by default.
    #[arg(long)]
    pub address: Option<IpAddr>,
    /// API addresses of all servers.
    #[arg(long, value_delimiter = ',', required = true)]
    pub server: Vec<String>,
    /// Token to join with; needed until the node has its certificate.
    #[arg(long, env = "KEELSON_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// File that holds the token.
    #[arg(long, conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// Addresses of all pods.
    #[arg(long, default_value = "10.244.0.0/16")]
    pub pod_cidr: String,
    /// Addresses of services.
    #[arg(long, default_value = "10.96.0.0/16")]
    pub service_cidr: String,
    /// Runs this many nodes without containers instead of a real one.
    #[arg(long, default_value_t = 0)]
    pub hollow_nodes: u32,
}

/// Runs an agent until SIGTERM or Ctrl-C.
pub fn run(args: &AgentArgs) -> Result<ExitCode> {
    telemetry::start();
    transport::install_crypto();
    crate::runtime()?.block_on(async {
        let shutdown = CancellationToken::new();
        let signalled = shutdown.clone();
        let signals = tokio::spawn(async move {
            if crate::stop_signal().await.is_ok() {
                signalled.cancel();
            }
        });
        let result = start(args, shutdown).await;
        signals.abort();
        result.map(|()| ExitCode::SUCCESS)
    })
}

/// Runs the nodes of an agent until `shutdown`; servers that do not answer yet are waited for.
///
/// # Errors
/// [`Usage`] for a bad token or address; otherwise what keeps a node from being set up.
pub async fn start(args: &AgentArgs, shutdown: CancellationToken) -> Result<()> {
    let name = node_name(args)?;
    if args.hollow_nodes == 0 {
        return run_node(args, &name, RuntimeChoice::Containerd, shutdown).await;
    }
    let mut nodes = JoinSet::new();
    for number in 0..args.hollow_nodes {
        let (args, name, shutdown) = (args.clone(), format!("{name}-{number}"), shutdown.clone());
        let first_address = hollow_address(number);
        let runtime = RuntimeChoice::Hollow { first_address, start: HOLLOW_START };
        nodes.spawn(async move { run_node(&args, &name, runtime, shutdown).await });
    }
    while let Some(ended) = nodes.join_next().await {
        ended??;
    }
    Ok(())
}

async fn run_node(
    args: &AgentArgs,
    name: &str,
    runtime: RuntimeChoice,
    shutdown: CancellationToken,
) -> Result<()> {
    let data_dir = if args.hollow_nodes > 0 { args.data_dir.join(name) } else { args.data_dir.clone() };
    let token = token(args)?;
    let identity_dir = data_dir.join("identity");
    let joining = join::identity(&identity_dir, name, &args.server, token.as_deref());
    let Some(identity) = shutdown.run_until_cancelled(joining).await else { return Ok(()) };
    let connection = Connection::Servers { servers: args.server.clone(), identity: identity? };
    let mut config = Config::new(name, data_dir, connection, runtime);
    config.node_ip = args.address;
    config.pod_cidr.clone_from(&args.pod_cidr);
    config.service_cidr.clone_from(&args.service_cidr);
    config.image_dir = args.cluster_dir.as_ref().map(|cluster| cluster.join("images"));
    config.cluster = args.cluster_dir.as_deref().map(ClusterId::of);
    Agent::run(config, shutdown).await
}

fn node_name(args: &AgentArgs) -> Result<String> {
    if let Some(name) = &args.node_name {
        return Ok(name.clone());
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .context("this machine has no name; give --node-name")?;
    let name = host.trim().to_lowercase();
    if name.is_empty() {
        return Err(Usage("this machine has no name; give --node-name".to_owned()).into());
    }
    Ok(name)
}

fn token(args: &AgentArgs) -> Result<Option<String>> {
    match (&args.token, &args.token_file) {
        (Some(token), _) => Ok(Some(token.clone())),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Usage(format!("{}: {error}", path.display())))?;
            Ok(Some(text.trim().to_owned()))
        }
        (None, None) => Ok(None),
    }
}

/// Made-up pod addresses of a hollow node: 250 in a block of its own of 11.0.0.0/8, which nothing on the machine routes.
fn hollow_address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(11, 0, 0, 1)).saturating_add(number << 8))
}
