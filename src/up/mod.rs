//! `keelson up` and `keelson down`: a whole cluster on one machine.
//!
//! One server and one agent share a process; otherwise a supervisor starts one process each and keeps it running. The kubeconfig
//! points to one address: the server itself, or a pass-through to the live servers.

mod down;
mod kubeconfig;
mod layout;
mod machine_network;
mod pass_through;
mod ports;
mod preflight;
mod processes;
mod ready;
mod single;
mod supervisor;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;

use crate::outcome::Usage;
use crate::server::{self, ClusterArgs};
use crate::telemetry;

pub use down::{DownArgs, run as run_down};
pub use layout::Layout;

/// Most servers of a cluster: a majority of seven survives three losses, more only slows writes.
const SERVERS_MAX: u32 = 7;
/// Most agents with real containers on one machine.
const AGENTS_MAX: u32 = 16;
/// Most hollow nodes of one process.
const HOLLOW_NODES_MAX: u32 = 5000;

/// Settings of `keelson up`.
#[derive(Clone, Debug, clap::Args)]
pub struct UpArgs {
    /// Holds everything of the cluster.
    #[arg(long, default_value = "/var/lib/keelson")]
    pub data_dir: PathBuf,
    /// Servers: 1, 3 or 5.
    #[arg(long, default_value_t = 1)]
    pub servers: u32,
    /// Nodes that run containers.
    #[arg(long, default_value_t = 1)]
    pub agents: u32,
    /// Nodes that only pretend to, for scale.
    #[arg(long, default_value_t = 0)]
    pub hollow_nodes: u32,
    /// Port of the API on 127.0.0.1; 0 takes any.
    #[arg(long, default_value_t = 6443)]
    pub api_port: u16,
    /// Goes to the background once the cluster is Ready.
    #[arg(long)]
    pub detach: bool,
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Runs a cluster until Ctrl-C or SIGTERM.
pub fn run(args: &UpArgs) -> Result<ExitCode> {
    check(args)?;
    if args.detach {
        return processes::detach(args);
    }
    transport::install_crypto();
    let args = preflight::adapt(args.clone());
    let layout = Layout::new(&std::path::absolute(&args.data_dir)?);
    refuse_busy_port(&args, &layout)?;
    let runtime = crate::runtime()?;
    runtime.block_on(preflight::refuse_taken_ranges(&args, &layout))?;
    let marker = layout.claim(args.servers)?;
    let _lock = layout.lock("up")?;
    // The terminal keeps the few lines that a person must see.
    telemetry::start_in(&layout.log_file("up"))?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let stop = tokio::spawn(cancel_on_signal(shutdown.clone()));
        let result = if is_one_process(&args) {
            single::run(&args, &layout, &marker, shutdown).await
        } else {
            processes::run(&args, &layout, &marker, shutdown).await
        };
        stop.abort();
        result.context("the cluster stopped")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A new cluster leaves no trace when its port is taken. An old one must take its lock first: it may run already.
fn refuse_busy_port(args: &UpArgs, layout: &Layout) -> Result<()> {
    if args.api_port == 0 || layout.is_claimed() {
        return Ok(());
    }
    let address = if is_one_process(args) { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
    server::refuse_busy(SocketAddr::from((address, args.api_port)))
}

/// One server with at most one real node needs no supervisor.
const fn is_one_process(args: &UpArgs) -> bool {
    args.servers == 1 && args.agents <= 1
}

fn check(args: &UpArgs) -> Result<()> {
    let limit = |what: &str, value: u32, max: u32| {
        if value > max {
            Err(Usage(format!("--{what} {value} is too many; the most is {max}")))
        } else {
            Ok(())
        }
    };
    limit("servers", args.servers, SERVERS_MAX)?;
    limit("agents", args.agents, AGENTS_MAX)?;
    limit("hollow-nodes", args.hollow_nodes, HOLLOW_NODES_MAX)?;
    if args.servers.is_multiple_of(2) {
        let servers = args.servers;
        return Err(Usage(format!(
            "--servers {servers}: use an odd number; an even one survives no more failures"
        ))
        .into());
    }
    Ok(())
}

async fn cancel_on_signal(shutdown: CancellationToken) {
    if crate::stop_signal().await.is_ok() {
        shutdown.cancel();
    }
}
