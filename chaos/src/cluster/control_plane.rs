//! The `k8s` tier: each member is a whole server, and agents beside them run nodes: one that runs hollow ones, or two with a real one each.
//!
//! Keys, certificates and tokens are made by the binary's own commands, as a person would who starts servers one by one. The store of a
//! server listens as a member of the other tiers does, so that leaders, logs and hashes are asked for in the same way.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::command::run;
use super::{Cluster, Member, Network, NodeList, Place, Program, RealNode};
use crate::history::{ApiCall, Face, Listing, Resource};
use crate::kubernetes::{Access, Server};
use crate::workload::Nodes;

/// Nodes of an agent that runs hollow ones.
const HOLLOW_NODES: usize = 3;
/// Where agents are cut off: how long servers hear nothing of a node before it is lost to them, for pods to be deleted a while later. A node is
/// heard of every 10 s.
const MONITOR_GRACE: Duration = Duration::from_secs(16);
const EVICTION: Duration = Duration::from_secs(8);
/// Silence after which pods of a node are deleted.
pub const LOST_AFTER: Duration = Duration::from_secs(MONITOR_GRACE.as_secs() + EVICTION.as_secs());
/// Port of the API, at each server's own address.
const API_PORT: u16 = 6443;
/// Longest wait for nodes to join.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
const JOIN_POLL: Duration = Duration::from_millis(200);

/// What agents of a run are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agents {
    pub nodes: Nodes,
    /// Whether a fault of the run parts them from servers: these then wait less long before a node is lost to them.
    pub are_cut_off: bool,
}

impl Agents {
    /// Returns how many processes run nodes.
    #[must_use]
    pub fn count(self) -> usize {
        match self.nodes {
            Nodes::Hollow => 1,
            Nodes::Real => 2,
        }
    }

    /// Returns how many nodes join.
    fn node_count(self) -> usize {
        match self.nodes {
            Nodes::Hollow => self.count() * HOLLOW_NODES,
            Nodes::Real => self.count(),
        }
    }

    /// Returns what servers are told of it.
    fn server_flags(self) -> Vec<String> {
        if !self.are_cut_off {
            return Vec::new();
        }
        let (grace, eviction) = (MONITOR_GRACE.as_secs(), EVICTION.as_secs());
        vec![format!("--node-monitor-grace-seconds={grace}"), format!("--pod-eviction-seconds={eviction}")]
    }
}

impl Cluster {
    /// Starts servers and agents, and waits until each server serves and every node is ready.
    ///
    /// # Errors
    /// When a process cannot be started or one does not serve in time.
    pub async fn start_servers(
        program: &Program,
        network: &Network,
        folder: &Path,
        agents: Agents,
    ) -> anyhow::Result<Self> {
        let places = network.places();
        let addresses: Vec<String> =
            (0..places.len()).map(|index| format!("{}:{API_PORT}", network.address(index))).collect();
        let urls: Vec<String> = addresses.iter().map(|address| format!("https://{address}")).collect();
        let shared = folder.join("data/cluster");
        let pki = shared.join("pki");
        let binary = program.binary.to_string_lossy().into_owned();
        let (pki_text, shared_text) = (pki.to_string_lossy(), shared.to_string_lossy());
        let sign_in = ["kubeconfig", "create", "--pki-dir", pki_text.as_ref(), "--server", &urls.join(",")];
        let access = Access::read(&run(&binary, &sign_in, "")?)?;
        let token = run(&binary, &["token", "create", "--data-dir", shared_text.as_ref()], "")?;

        let initial: Vec<String> = places
            .iter()
            .map(|place| format!("{}={}", place.name, place.peer_url.replacen("http:", "https:", 1)))
            .collect();
        let arguments = |place: &Place, data: &Path| {
            [server_arguments(place, data, &pki, &initial, &urls), agents.server_flags()].concat()
        };
        let mut cluster = Self::start_members(program, &places, folder, arguments)?;
        for (place, address) in places.iter().zip(&addresses) {
            cluster.servers.push(Server::new(&place.name, address, &access)?);
        }
        for index in 0..agents.count() {
            cluster.agents.push(agent(program, network, index, folder, (&urls, token.trim(), agents.nodes)));
        }
        if agents.nodes == Nodes::Real {
            let images = shared.join("images");
            run(&binary, &["image", "pack", "--output", &images.to_string_lossy()], "")?;
            cluster.keep_nodes(network.run_id())?;
        }
        cluster.learn_ids().await?;
        // An agent that finds no server to join at ends, so it comes when there is one.
        for agent in &mut cluster.agents {
            agent.start()?;
        }
        cluster.wait_nodes(agents.node_count()).await?;
        Ok(cluster)
    }

    /// Sees to it that what agents start goes with the run, before they start it.
    fn keep_nodes(&mut self, run_id: &str) -> anyhow::Result<()> {
        let data: Vec<PathBuf> = self.agents.iter().map(|agent| self.data.join(&agent.name)).collect();
        self.node_list = Some(NodeList::create(run_id, &data)?);
        self.nodes = data.into_iter().map(RealNode::new).collect();
        Ok(())
    }

    /// Waits until so many nodes are ready.
    async fn wait_nodes(&mut self, count: usize) -> anyhow::Result<()> {
        let server = self.servers.first().context("no server")?.clone();
        let began = tokio::time::Instant::now();
        let listing = Listing { face: Face::Rest, resource: Resource::Nodes, ..Listing::default() };
        loop {
            let answer = server.perform(&ApiCall::List(listing.clone())).await;
            let ready = answer.map_or(0, |answer| answer.items.iter().filter(|node| is_ready(node)).count());
            if ready >= count {
                return Ok(());
            }
            for agent in &mut self.agents {
                if let Some(status) = agent.ended() {
                    anyhow::bail!("{} ended ({status}): {}", agent.name, agent.last_words());
                }
            }
            anyhow::ensure!(began.elapsed() < JOIN_TIMEOUT, "{ready} nodes are ready after {JOIN_TIMEOUT:?}");
            tokio::time::sleep(JOIN_POLL).await;
        }
    }
}

fn is_ready(node: &Value) -> bool {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    let text = |condition: &Value, name: &str| condition.get(name).and_then(Value::as_str) == Some("True");
    conditions.into_iter().flatten().any(|condition| {
        condition.get("type").and_then(Value::as_str) == Some("Ready") && text(condition, "status")
    })
}

fn server_arguments(
    place: &Place,
    data: &Path,
    pki: &Path,
    initial: &[String],
    urls: &[String],
) -> Vec<String> {
    let host = |url: &str| url.split_once("://").map_or(url, |(_, host)| host).to_owned();
    let address = host(&place.client_url).rsplit_once(':').map_or(String::new(), |(host, _)| host.to_owned());
    let mut arguments = vec!["server".to_owned()];
    let mut flag = |name: &str, value: &str| arguments.push(format!("--{name}={value}"));
    flag("name", &place.name);
    flag("data-dir", &data.to_string_lossy());
    flag("pki-dir", &pki.to_string_lossy());
    flag("listen", &format!("0.0.0.0:{API_PORT}"));
    flag("advertise", &address);
    flag("listen-peer", &host(&place.peer_url));
    flag("listen-store", &host(&place.client_url));
    flag("initial-cluster", &initial.join(","));
    flag("servers", &urls.join(","));
    arguments
}

fn agent(
    program: &Program,
    network: &Network,
    index: usize,
    folder: &Path,
    (urls, token, nodes): (&[String], &str, Nodes),
) -> Member {
    let (name, namespace, address) = network.agent_host(index);
    let mut arguments = vec!["agent".to_owned()];
    let mut flag = |name: &str, value: &str| arguments.push(format!("--{name}={value}"));
    flag("data-dir", &folder.join("data").join(&name).to_string_lossy());
    flag("node-name", &format!("node-{name}"));
    flag("address", &address);
    flag("server", &urls.join(","));
    match nodes {
        Nodes::Hollow => flag("hollow-nodes", &HOLLOW_NODES.to_string()),
        // Images are found there.
        Nodes::Real => flag("cluster-dir", &folder.join("data/cluster").to_string_lossy()),
    }
    let mut program = program.clone();
    program.environment.push(("KEELSON_TOKEN".to_owned(), token.to_owned()));
    let log = folder.join(format!("{name}.log"));
    Member { name, namespace: Some(namespace), program, clock: None, arguments, log, child: None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_ready_when_it_says_so() {
        let node = |status: &str| {
            json!({ "status": { "conditions": [
                { "type": "DiskPressure", "status": "True" }, { "type": "Ready", "status": status },
            ] } })
        };
        assert!(is_ready(&node("True")));
        assert!(!is_ready(&node("Unknown")) && !is_ready(&json!({})));
    }
}
