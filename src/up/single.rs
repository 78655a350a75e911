//! One server and at most one node: everything in this process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use anyhow::{Context, Result};
use apiserver::pki::Bundle;
use nodeagent::network::{Netns, uplink};
use tokio_util::sync::CancellationToken;

use super::layout::{Layout, Marker};
use super::processes::{token_file, write_token};
use super::{UpArgs, kubeconfig, ready};
use crate::agent::{self, AgentArgs};
use crate::server::{self, InitialMemberArg, ServerArgs, component_client};

/// Runs the cluster until `shutdown`.
pub async fn run(args: &UpArgs, layout: &Layout, marker: &Marker, shutdown: CancellationToken) -> Result<()> {
    let began = Instant::now();
    let address = node_address().await;
    let stop_server = CancellationToken::new();
    let server = server::start(&server_args(args, layout, marker, address)?, stop_server.clone()).await?;
    let port = server.local_addr.port();
    let bundle = Bundle::load_or_create(&layout.pki()).context("cannot use the cluster's keys")?;
    kubeconfig::write(layout, &bundle, port, &[port])?;
    write_token(layout, &bundle)?;
    let stop_agents = CancellationToken::new();
    let mut agents = tokio::task::JoinSet::new();
    for agent in agent_args(args, layout, address, port) {
        let stop = stop_agents.clone();
        agents.spawn(async move { agent::start(&agent, stop).await });
    }
    let client =
        component_client(&bundle, "system:kube-controller-manager", &[format!("https://127.0.0.1:{port}")])?;
    let expected = usize::try_from(args.agents + args.hollow_nodes)?;
    let outcome = tokio::select! {
        is_ready = ready::wait(&client, expected, &shutdown) => is_ready.map(|is_ready| {
            if is_ready { ready::announce(layout, port, began.elapsed()); }
        }),
        Some(ended) = agents.join_next() => ended.map_err(anyhow::Error::from).and_then(|ended| ended),
    };
    let outcome = match outcome {
        Ok(()) => tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            Some(ended) = agents.join_next() => ended.map_err(anyhow::Error::from).and_then(|ended| ended),
        },
        Err(error) => Err(error),
    };
    eprintln!("keelson: stopping");
    stop_agents.cancel();
    while agents.join_next().await.is_some() {}
    stop_server.cancel();
    server.stopped().await;
    outcome
}

/// The address of this machine that pods can reach; loopback where there is no other.
async fn node_address() -> IpAddr {
    uplink(&Netns::Own).await.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |uplink| IpAddr::V4(uplink.address))
}

fn server_args(args: &UpArgs, layout: &Layout, marker: &Marker, address: IpAddr) -> Result<ServerArgs> {
    let ports = marker.servers.first().context("a cluster has at least one server")?;
    let name = "server-1".to_owned();
    let port = if args.api_port == 0 { ports.api } else { args.api_port };
    Ok(ServerArgs {
        data_dir: layout.process(&name),
        pki_dir: layout.pki(),
        name: name.clone(),
        listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        advertise: address,
        certificate_addresses: Vec::new(),
        listen_peer: SocketAddr::from((Ipv4Addr::LOCALHOST, ports.peer)),
        initial_cluster: vec![InitialMemberArg {
            name,
            peer_url: format!("https://127.0.0.1:{}", ports.peer),
        }],
        servers: Vec::new(),
        without: Vec::new(),
        listen_store: None,
        cluster: args.cluster.clone(),
    })
}

fn agent_args(args: &UpArgs, layout: &Layout, address: IpAddr, port: u16) -> Vec<AgentArgs> {
    let agent = |name: &str, node_name: &str, hollow_nodes: u32| AgentArgs {
        data_dir: layout.process(name),
        cluster_dir: Some(layout.root().to_path_buf()),
        node_name: Some(node_name.to_owned()),
        address: Some(address),
        server: vec![format!("https://127.0.0.1:{port}")],
        token: None,
        token_file: Some(token_file(layout)),
        pod_cidr: args.cluster.pod_cidr.clone(),
        service_cidr: args.cluster.service_cidr.clone(),
        hollow_nodes,
    };
    let mut agents = Vec::new();
    if args.agents > 0 {
        agents.push(agent("agent-1", "node-1", 0));
    }
    if args.hollow_nodes > 0 {
        agents.push(agent("hollow", "hollow", args.hollow_nodes));
    }
    agents
}
