//! Hollow nodes: the node agent with its runtime in memory, several in one process.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context;
use client::Client;
use nodeagent::Agent;
use nodeagent::config::{Config, Connection, RuntimeChoice};
use nodeagent::node::Machine;
use simulation::control_plane::Process;
use simulation::sign_in::User;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// As many as the real tier has.
const NODES: u8 = 3;
/// How long a container takes to start: about what containerd takes.
const START: Duration = Duration::from_millis(300);

/// Runs the agents of all nodes until the process is taken away.
pub(crate) async fn run(process: Process) -> anyhow::Result<()> {
    let mut nodes = JoinSet::new();
    for number in 0..NODES {
        let config = config(&process, number)?;
        nodes.spawn(Agent::run(config, CancellationToken::new()));
    }
    while let Some(ended) = nodes.join_next().await {
        ended.context("an agent panicked")??;
    }
    anyhow::bail!("all agents have ended")
}

fn config(process: &Process, number: u8) -> anyhow::Result<Config> {
    let name = format!("node-{number}");
    let user = User::node(&name);
    let channels = process.servers.iter().map(|server| process.channel(server, &user));
    let channels = channels.collect::<Result<Vec<_>, _>>()?;
    let client = Client::over(channels, "keelson-agent", process.outside.clone())?;
    // Made-up addresses, a block for each node.
    let first_address = Ipv4Addr::new(11, 0, number, 1);
    let runtime = RuntimeChoice::Hollow { first_address, start: START };
    // Nothing is kept there.
    let directory = std::env::temp_dir();
    let mut config = Config::new(name, directory, Connection::Client(client), runtime);
    config.machine = Some(machine());
    config.node_ip = Some(process.address());
    Ok(config)
}

/// The same wherever the simulation runs, with room for some of the pods of a workload that has too many.
fn machine() -> Machine {
    let text = |text: &str| text.to_owned();
    Machine {
        cpu_count: 2,
        memory_bytes: 8 << 30,
        storage_bytes: 64 << 30,
        machine_id: text("00000000000000000000000000000001"),
        boot_id: text("00000000-0000-4000-8000-000000000001"),
        kernel: text("6.1.0"),
        os_image: text("a simulated machine"),
    }
}
