//! The network of one run: a hub namespace with a bridge, and one namespace per member.
//!
//! Every name carries the run id, and the run id the harness's pid: a later run removes what a killed one left behind.

use std::fs::File;
use std::path::Path;

use anyhow::Context;
use nix::sched::{CloneFlags, setns};

use super::Place;
use super::command::run;

/// Begins the name of every namespace that this harness makes.
pub const RUN_PREFIX: &str = "keelson-chaos-";
/// The ports of every member, each at its own address.
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// Where `ip netns` keeps namespaces.
const NAMESPACES: &str = "/run/netns";
/// Cut pairs of addresses; packets that a cut has eaten are counted.
const RULES: &str = "table bridge chaos {
  set cut { type ipv4_addr . ipv4_addr; }
  counter dropped { }
  chain forward {
    type filter hook forward priority 0; policy accept;
    ip saddr . ip daddr @cut counter name dropped drop
  }
}
";

/// The namespaces of a run; they go when it is dropped.
pub struct Network {
    run_id: String,
    members: usize,
}

impl Network {
    /// Builds the network.
    ///
    /// # Errors
    /// When this process may not, or a tool is missing.
    pub fn create(members: usize) -> anyhow::Result<Self> {
        anyhow::ensure!((1..=9).contains(&members), "a run has 1 to 9 members, not {members}");
        sweep();
        let network = Self { run_id: format!("{RUN_PREFIX}{}", std::process::id()), members };
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
        ip(&format!("-n {hub} addr add 10.231.7.254/24 dev hub"))?;
        ip(&format!("-n {hub} link set hub up"))?;
        for (index, name) in self.names().iter().enumerate() {
            let (namespace, address) = (self.namespace(index), self.address(index));
            ip(&format!("netns add {namespace}"))?;
            ip(&format!("-n {hub} link add {name} type veth peer name eth0 netns {namespace}"))?;
            ip(&format!("-n {hub} link set {name} master hub up"))?;
            ip(&format!("-n {namespace} addr add {address}/24 dev eth0"))?;
            ip(&format!("-n {namespace} link set eth0 up"))?;
            ip(&format!("-n {namespace} link set lo up"))?;
        }
        run("ip", &["netns", "exec", &hub, "nft", "-f", "-"], RULES)?;
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

    /// Drops packets from the first to the second member of each pair. The caller is in the hub.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn cut(&self, pairs: &[(usize, usize)]) -> anyhow::Result<()> {
        let pairs: Vec<String> = pairs
            .iter()
            .map(|(from, to)| format!("{} . {}", self.address(*from), self.address(*to)))
            .collect();
        let rule = format!("add element bridge chaos cut {{ {} }}", pairs.join(", "));
        run("nft", &["-f", "-"], &rule).map(|_| ())
    }

    /// Ends all cuts. The caller is in the hub.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn heal(&self) -> anyhow::Result<()> {
        run("nft", &["-f", "-"], "flush set bridge chaos cut").map(|_| ())
    }

    /// Returns how many packets cuts have eaten so far. The caller is in the hub.
    ///
    /// # Errors
    /// When nft does not say.
    pub fn packets_dropped(&self) -> anyhow::Result<u64> {
        let listing = run("nft", &["list", "counter", "bridge", "chaos", "dropped"], "")?;
        packets(&listing).context("nft shows no counter")
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
    fn names(&self) -> Vec<String> {
        (1..=self.members).map(|number| format!("n{number}")).collect()
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

    fn hub(&self) -> String {
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

fn packets(listing: &str) -> Option<u64> {
    let mut words = listing.split_whitespace().skip_while(|word| *word != "packets");
    words.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_read_from_its_listing() {
        let listing = "table bridge chaos {\n\tcounter dropped {\n\t\tpackets 42 bytes 3528\n\t}\n}\n";
        assert_eq!(packets(listing), Some(42));
        assert_eq!(packets("table bridge chaos {}"), None);
    }

    #[test]
    fn only_namespaces_of_a_run_name_a_pid() {
        assert_eq!(run_pid("keelson-chaos-123-hub"), Some("123"));
        assert_eq!(run_pid("keelson-chaos-x-hub"), None);
        assert_eq!(run_pid("keelson-node-123-hub"), None);
    }
}
