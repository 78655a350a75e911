//! The network of one run: a hub namespace with a bridge, and one namespace per member.
//!
//! Every name carries the run id, and the run id the harness's pid: a later run removes what a killed one left behind.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use nix::sched::{CloneFlags, setns};

use super::command::run;
use super::{Disturbance, Place, control_group, real_node};

/// Begins the name of every namespace that this harness makes.
pub const RUN_PREFIX: &str = "keelson-chaos-";
/// The ports of every member, each at its own address.
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// Where `ip netns` keeps namespaces.
const NAMESPACES: &str = "/run/netns";
/// The harness's own address, from which all clients come.
const CLIENTS_ADDRESS: &str = "10.231.7.254";
/// Cut pairs of addresses; packets that a cut has eaten or refused are counted. What clients send does not pass prerouting.
const RULES: &str = "table bridge chaos {
  set silent { type ipv4_addr . ipv4_addr; }
  counter silent { }
  chain prerouting {
    type filter hook prerouting priority 0; policy accept;
    ip saddr . ip daddr @silent counter name silent drop
  }
  chain output {
    type filter hook output priority 0; policy accept;
    ip saddr . ip daddr @silent counter name silent drop
  }
}
";

/// In each member's namespace: whom it refuses. A bridge cannot send resets on every kernel.
const MEMBER_RULES: &str = "table inet chaos {
  set refused { type ipv4_addr; }
  counter refused { }
  chain input {
    type filter hook input priority 0; policy accept;
    ip saddr @refused meta l4proto tcp counter name refused reject with tcp reset
  }
}
";

/// One end of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    Member(usize),
    /// The host of an agent, with all of its nodes.
    Agent(usize),
    /// The harness, with all of its clients.
    Clients,
}

/// What becomes of packets on a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They are lost.
    Silent,
    /// Their sender gets a TCP reset.
    Reset,
}

/// Networks that this process has made: the names of each are its own.
static NETWORKS: AtomicU64 = AtomicU64::new(1);

/// The namespaces of a run; they go when it is dropped.
pub struct Network {
    run_id: String,
    members: usize,
    /// Hosts beside the members. A cut can part them from members; no other fault of the network is aimed at them.
    agents: usize,
}

impl Network {
    /// Builds the network.
    ///
    /// # Errors
    /// When this process may not, or a tool is missing.
    pub fn create(members: usize) -> anyhow::Result<Self> {
        Self::create_with_agents(members, 0)
    }

    /// Builds the network with hosts for agents beside the members.
    ///
    /// # Errors
    /// When this process may not, or a tool is missing.
    pub fn create_with_agents(members: usize, agents: usize) -> anyhow::Result<Self> {
        anyhow::ensure!((1..=9).contains(&members), "a run has 1 to 9 members, not {members}");
        sweep();
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let run_id = format!("{RUN_PREFIX}{}-{number}", std::process::id());
        let network = Self { run_id, members, agents };
        network.build().context("cannot build the network of the run")?;
        Ok(network)
    }

    fn build(&self) -> anyhow::Result<()> {
        let hub = self.hub();
        let ip = |arguments: &str| {
            let arguments: Vec<&str> = arguments.split(' ').collect();
            run("ip", &arguments, "").map(|_| ())
        };
        ip(&format!("netns add {hub}"))?;
        ip(&format!("-n {hub} link set lo up"))?;
        ip(&format!("-n {hub} link add hub type bridge"))?;
        ip(&format!("-n {hub} addr add {CLIENTS_ADDRESS}/24 dev hub"))?;
        ip(&format!("-n {hub} link set hub up"))?;
        let agents = (0..self.agents).map(|index| self.agent_host(index));
        let members = self.names().into_iter().enumerate();
        let members = members.map(|(index, name)| (name, self.namespace(index), self.address(index)));
        for (name, namespace, address) in members.chain(agents) {
            ip(&format!("netns add {namespace}"))?;
            ip(&format!("-n {hub} link add {name} type veth peer name eth0 netns {namespace}"))?;
            ip(&format!("-n {hub} link set {name} master hub up"))?;
            ip(&format!("-n {namespace} addr add {address}/24 dev eth0"))?;
            ip(&format!("-n {namespace} link set eth0 up"))?;
            ip(&format!("-n {namespace} link set lo up"))?;
        }
        nft_in(&hub, &["-f", "-"], RULES)?;
        for index in 0..self.members {
            nft_in(&self.namespace(index), &["-f", "-"], MEMBER_RULES)?;
        }
        Ok(())
    }

    /// Moves the calling thread, and every thread that it starts from now on, into the hub.
    ///
    /// # Errors
    /// When this process may not.
    pub fn enter(&self) -> anyhow::Result<()> {
        let hub = File::open(Path::new(NAMESPACES).join(self.hub()))?;
        setns(hub, CloneFlags::CLONE_NEWNET).context("cannot enter the hub's namespace")
    }

    /// Cuts off the second host of each pair from what the first sends. The caller is in the hub.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn cut(&self, way: Way, pairs: &[(Host, Host)]) -> anyhow::Result<()> {
        self.change("add", way, pairs)
    }

    /// Ends a cut, which must stand. The caller is in the hub.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn mend(&self, way: Way, pairs: &[(Host, Host)]) -> anyhow::Result<()> {
        self.change("delete", way, pairs)
    }

    fn change(&self, verb: &str, way: Way, pairs: &[(Host, Host)]) -> anyhow::Result<()> {
        match way {
            Way::Silent if pairs.is_empty() => Ok(()),
            Way::Silent => {
                let pairs: Vec<String> = pairs
                    .iter()
                    .map(|(from, to)| format!("{} . {}", self.host(*from), self.host(*to)))
                    .collect();
                let rule = format!("{verb} element bridge chaos silent {{ {} }}", pairs.join(", "));
                run("nft", &["-f", "-"], &rule).map(|_| ())
            }
            Way::Reset => pairs.iter().try_for_each(|(from, to)| {
                let Host::Member(to) = to else { anyhow::bail!("only members refuse somebody") };
                let rule = format!("{verb} element inet chaos refused {{ {} }}", self.host(*from));
                nft_in(&self.namespace(*to), &["-f", "-"], &rule).map(|_| ())
            }),
        }
    }

    fn host(&self, host: Host) -> String {
        match host {
            Host::Member(index) => self.address(index),
            Host::Agent(index) => self.agent_host(index).2,
            Host::Clients => CLIENTS_ADDRESS.to_owned(),
        }
    }

    /// Ends all cuts. The caller is in the hub.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn heal(&self) -> anyhow::Result<()> {
        run("nft", &["-f", "-"], "flush set bridge chaos silent")?;
        self.calm(Disturbance::Loss)?;
        self.calm(Disturbance::Duplication)?;
        for index in 0..self.members {
            self.plug(&[index])?;
            self.widen(index)?;
            nft_in(&self.namespace(index), &["-f", "-"], "flush set inet chaos refused")?;
        }
        Ok(())
    }

    /// Returns how many packets cuts of this way have stopped so far. The caller is in the hub.
    ///
    /// # Errors
    /// When nft does not say.
    pub fn packets_cut(&self, way: Way) -> anyhow::Result<u64> {
        let read = |listing: String| number_behind("packets", &listing).context("nft shows no counter");
        match way {
            Way::Silent => read(run("nft", &["list", "counter", "bridge", "chaos", "silent"], "")?),
            Way::Reset => (0..self.members)
                .map(|index| {
                    let list = ["list", "counter", "inet", "chaos", "refused"];
                    read(nft_in(&self.namespace(index), &list, "")?)
                })
                .sum(),
        }
    }

    /// Returns the name that namespaces and cluster of the run share.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Returns where each member lives.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        let place = |(index, name)| Place {
            name,
            client_url: format!("http://{}:{CLIENT_PORT}", self.address(index)),
            peer_url: format!("http://{}:{PEER_PORT}", self.address(index)),
            namespace: Some(self.namespace(index)),
        };
        self.names().into_iter().enumerate().map(place).collect()
    }

    /// Returns the members' names: n1, n2, and so on.
    pub(super) fn names(&self) -> Vec<String> {
        (0..self.members).map(name).collect()
    }

    /// Returns name, namespace and address of an agent's host.
    pub(super) fn agent_host(&self, index: usize) -> (String, String, String) {
        let number = index + 1;
        (format!("a{number}"), format!("{}-a{number}", self.run_id), format!("10.231.7.{}", 100 + number))
    }

    /// Returns the address of the member at this place.
    #[must_use]
    pub fn address(&self, index: usize) -> String {
        format!("10.231.7.{}", index + 1)
    }

    /// Returns the namespace of the member at this place.
    #[must_use]
    pub fn namespace(&self, index: usize) -> String {
        format!("{}-n{}", self.run_id, index + 1)
    }

    /// Returns the namespace in which the bridge and the harness are.
    #[must_use]
    pub fn hub(&self) -> String {
        format!("{}-hub", self.run_id)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(|name| name.strip_prefix(&self.run_id).is_some_and(|rest| rest.starts_with('-')));
    }
}

/// Removes what runs left behind whose harness is gone.
fn sweep() {
    control_group::sweep();
    real_node::sweep();
    remove(|name| run_pid(name).is_some_and(|pid| !Path::new("/proc").join(pid).exists()));
}

fn run_pid(namespace: &str) -> Option<&str> {
    let (pid, _) = namespace.strip_prefix(RUN_PREFIX)?.split_once('-')?;
    pid.parse::<u32>().is_ok().then_some(pid)
}

fn remove(is_ours: impl Fn(&str) -> bool) {
    let Ok(entries) = std::fs::read_dir(NAMESPACES) else { return };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    for name in names.filter(|name| is_ours(name)) {
        // Links and rules go with their namespace.
        if let Err(error) = run("ip", &["netns", "delete", &name], "") {
            tracing::warn!(name, error = format!("{error:#}"), "a network namespace of the run stays behind");
        }
    }
}

/// Runs nft in a namespace.
fn nft_in(namespace: &str, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let net = format!("--net={NAMESPACES}/{namespace}");
    run("nsenter", &[&[net.as_str(), "nft"], arguments].concat(), input)
}

/// Returns the number behind a word in what a tool prints.
pub(super) fn number_behind(word: &str, listing: &str) -> Option<u64> {
    let mut words = listing.split_whitespace().skip_while(|found| *found != word);
    words.nth(1)?.trim_end_matches(',').parse().ok()
}

/// Returns the name of the member at this place, which is that of its port at the hub.
pub(super) fn name(index: usize) -> String {
    format!("n{}", index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_read_from_its_listing() {
        let listing = "table bridge chaos {\n\tcounter silent {\n\t\tpackets 42 bytes 3528\n\t}\n}\n";
        assert_eq!(number_behind("packets", listing), Some(42));
        assert_eq!(number_behind("packets", "table bridge chaos {}"), None);
        assert_eq!(number_behind("overlimits", "(dropped 0, overlimits 19 requeues 0)"), Some(19));
    }

    #[test]
    fn only_namespaces_of_a_run_name_a_pid() {
        assert_eq!(run_pid("keelson-chaos-123-1-hub"), Some("123"));
        assert_eq!(run_pid("keelson-chaos-x-hub"), None);
        assert_eq!(run_pid("keelson-node-123-hub"), None);
    }
}
