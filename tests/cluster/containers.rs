//! The processes of an agent's containers, as the kernel shows them.

use std::collections::BTreeSet;
use std::fs;

use nodeagent::containerd::Paths;

use super::Cluster;

/// The first process of a container or sandbox. A pid may be used again; a pid with its start time is one process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerProcess {
    pub pid: u32,
    /// Clock ticks since boot: field 22 of `/proc/<pid>/stat`.
    pub start_time: u64,
    /// Names the pod's uid and the container's id.
    pub cgroup: String,
}

impl Cluster {
    /// Returns the first process of every container and sandbox of an agent, such as `agent-1`.
    pub fn container_processes(&self, agent: &str) -> BTreeSet<ContainerProcess> {
        let below = Paths::new(&self.data_dir.join(agent)).cgroup_prefix() + "/";
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        // A process that ends while it is looked at is none.
        pids.filter_map(|pid| container_process(pid, &below)).collect()
    }
}

fn container_process(pid: u32, below: &str) -> Option<ContainerProcess> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    let cgroups = read("cgroup")?;
    let cgroup = cgroups.lines().find_map(|line| Some(line.split_once(below)?.1.to_owned()))?;
    // Its pid in every namespace, the innermost last: the first process of a namespace is number 1 there.
    let status = read("status")?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    if numbers.split_whitespace().last()? != "1" {
        return None;
    }
    let stat = read("stat")?;
    // The name is in brackets and may hold anything; what follows it begins with field 3.
    let (_, fields) = stat.rsplit_once(") ")?;
    let start_time = fields.split_whitespace().nth(19)?.parse().ok()?;
    Some(ContainerProcess { pid, start_time, cgroup })
}
