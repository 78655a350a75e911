//! Network namespaces that act as machines: one per agent of `keelson up --agents N`.
//!
//! ```text
//!   root namespace ("the hub")            node namespace 0               node namespace 1
//!   kn<cluster>0  hub/32  ──── veth ────  eth0 hub+1/32
//!   kn<cluster>1  hub/32  ──── veth ───────────────────────────────────  eth0 hub+2/32
//!                                         default via hub                default via hub
//! ```
//!
//! The hub's address is on every link and answers from inside the namespaces: agents reach the API server there, and the
//! `kubernetes` service's endpoints must name it. Addresses come from `100.64.0.0/10` (shared address space, RFC 6598):
//! each cluster uses one `/22` picked by its id. Start a node's process with [`NodeNamespace::command`].

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::network::plan::Pair;
use crate::network::pods::delete_link;
use crate::network::{ClusterId, Ipv4Net, Netns, NetworkError, run_nft, sysctl, tool, uplink};

/// Where link ranges are cut from.
const LINKS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);
/// A `/10` has 4096 parts of this length.
const LINK_PREFIX_LEN: u8 = 22;
/// Most nodes of one cluster on a machine: the addresses of a `/22` without network, hub and broadcast.
pub const NODE_COUNT_MAX: u16 = 1021;

/// Which namespaces a cluster has on this machine.
#[derive(Clone, Debug)]
pub struct HostsConfig {
    pub cluster: ClusterId,
    /// The namespace that links and forwards them, the machine's own outside of tests.
    pub root: Netns,
    /// Directory of the files `agent-N.netns`, N from 1.
    pub run_dir: PathBuf,
    /// How many; at most [`NODE_COUNT_MAX`].
    pub count: u16,
}

/// The namespaces of a cluster.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// The address of the root namespace as the nodes see it.
    pub hub: Ipv4Addr,
    /// Where the hub's and the nodes' addresses come from.
    pub links: Ipv4Net,
    pub nodes: Vec<NodeNamespace>,
}

/// One namespace that acts as a machine.
#[derive(Clone, Debug)]
pub struct NodeNamespace {
    pub index: u16,
    /// The node's address.
    pub address: Ipv4Addr,
    /// The file that the namespace is bound to.
    pub path: PathBuf,
}

impl NodeNamespace {
    /// Returns a command that runs a program inside, with everything but the network as outside.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path.display())).arg("--").arg(program);
        command
    }

    /// Returns the namespace for work by this process.
    #[must_use]
    pub fn netns(&self) -> Netns {
        Netns::At(self.path.clone())
    }
}

/// Makes the namespaces, or finds those that are still there with everything that runs in them.
///
/// # Errors
/// `InUse` when something else on the machine has the hub's address; otherwise what the kernel refused.
pub async fn create(config: &HostsConfig) -> Result<Hosts, NetworkError> {
    let hosts = layout(config)?;
    let mtu = uplink(&config.root).await.map_or(1500, |uplink| uplink.mtu);
    let (cluster, hub, links) = (config.cluster, hosts.hub, hosts.links);
    config.root.try_run(move || prepare_root(cluster, hub, links)).await?;
    for node in &hosts.nodes {
        let pair = Pair { link: cluster.node_link(node.index), gateway: hub, address: node.address, mtu };
        connect(&config.root, node, pair).await?;
    }
    Ok(hosts)
}

/// Removes the namespaces and their links. Processes inside must have ended: they would keep a namespace without a name.
///
/// # Errors
/// What the kernel refused; what is already gone is fine.
pub async fn remove(config: &HostsConfig) -> Result<(), NetworkError> {
    let cluster = config.cluster;
    for node in layout(config)?.nodes {
        let link = cluster.node_link(node.index);
        config.root.try_run(move || delete_link(&link)).await?;
        Netns::remove(&node.path).await?;
    }
    let table = cluster.hub_table();
    config.root.try_run(move || run_nft(&format!("add table ip {table}\ndelete table ip {table}\n"))).await
}

/// Returns where everything is, without touching anything.
///
/// # Errors
/// `Range` when there are too many nodes.
pub fn layout(config: &HostsConfig) -> Result<Hosts, NetworkError> {
    // Twelve bits of the id, put between the ten of the /10 and the ten of a host.
    let part = (config.cluster.number() >> 20) << (32 - LINK_PREFIX_LEN);
    let links = Ipv4Net::new(Ipv4Addr::from(u32::from(LINKS) | part), LINK_PREFIX_LEN);
    let beyond = NetworkError::Range { range: links, reason: "too many nodes for one machine" };
    if config.count > NODE_COUNT_MAX {
        return Err(beyond);
    }
    let node = |index: u16| {
        let path = config.run_dir.join(format!("agent-{}.netns", index + 1));
        links.nth(u32::from(index) + 2).map(|address| NodeNamespace { index, address, path })
    };
    let nodes = (0..config.count).map(node).collect::<Option<Vec<_>>>();
    match (links.nth(1), nodes) {
        (Some(hub), Some(nodes)) => Ok(Hosts { hub, links, nodes }),
        _ => Err(beyond),
    }
}

fn prepare_root(cluster: ClusterId, hub: Ipv4Addr, links: Ipv4Net) -> Result<(), NetworkError> {
    let own = format!("kn{cluster}");
    for device in tool::ip_json(&["-json", "-4", "address", "show", "to", &format!("{hub}/32")])? {
        // `ip` prints an empty object for each device without such an address.
        let name = device.get("ifname").and_then(serde_json::Value::as_str);
        if let Some(owner) = name.filter(|name| !name.starts_with(&own)) {
            return Err(NetworkError::InUse { address: hub, owner: owner.to_owned() });
        }
    }
    sysctl("net/ipv4/ip_forward", "1")?;
    run_nft(&hub_rules(&cluster.hub_table(), &own, links))
}

/// Lets the nodes reach what lies beyond the machine under the machine's own address.
fn hub_rules(table: &str, own_links: &str, links: Ipv4Net) -> String {
    format!(
        "add table ip {table}\ndelete table ip {table}\ntable ip {table} {{\n\
         \tchain postrouting {{\n\t\ttype nat hook postrouting priority 100;\n\
         \t\tip saddr {links} oifname != \"{own_links}*\" masquerade\n\t}}\n}}\n"
    )
}

async fn connect(root: &Netns, node: &NodeNamespace, pair: Pair) -> Result<(), NetworkError> {
    let link = pair.link.clone();
    let is_linked = root.run(move || tool::ip(&["link", "show", "dev", &link]).is_ok()).await?;
    if is_linked && Netns::exists(&node.path).await {
        return Ok(());
    }
    Netns::remove(&node.path).await?;
    let netns = Netns::create(&node.path).await?;
    let (near, path) = (pair.clone(), node.path.clone());
    root.try_run(move || {
        delete_link(&near.link)?;
        tool::ip_batch(&near.near(&path))
    })
    .await?;
    netns
        .try_run(move || {
            sysctl("net/ipv4/ip_forward", "1")?;
            tool::ip_batch(&pair.far())
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(id: [u8; 4], count: u16) -> HostsConfig {
        HostsConfig { cluster: ClusterId::from_bytes(id), root: Netns::Own, run_dir: "/d/run".into(), count }
    }

    #[test]
    fn each_cluster_has_its_part_of_the_link_range() {
        let hosts = layout(&config([0xde, 0xad, 0xbe, 0xef], 2)).unwrap();
        assert!("100.64.0.0/10".parse::<Ipv4Net>().unwrap().covers(hosts.links));
        assert_eq!(hosts.nodes.len(), 2);
        assert_eq!(hosts.nodes[1].path, PathBuf::from("/d/run/agent-2.netns"));
        assert!(
            hosts.nodes.iter().all(|node| hosts.links.contains(node.address) && node.address != hosts.hub)
        );
        assert_ne!(layout(&config([0, 0x10, 0, 1], 1)).unwrap().links, hosts.links);
    }

    #[test]
    fn the_most_nodes_still_fit() {
        assert_eq!(
            layout(&config([1, 2, 3, 4], NODE_COUNT_MAX)).unwrap().nodes.len(),
            usize::from(NODE_COUNT_MAX)
        );
        assert!(layout(&config([1, 2, 3, 4], NODE_COUNT_MAX + 1)).is_err());
    }
}
