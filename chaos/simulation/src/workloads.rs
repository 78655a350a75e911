//! Which of chaos's workloads a run has.

use chaos::workload::{Nodes, Tier, WORKLOADS};

/// Those that any faults leave enough of to judge.
const ALL: [&str; 6] = ["register", "cas", "set", "append", "txn", "lease"];
/// Those that are simulated when they are named: under the heaviest faults of a swarm nothing is left to judge, or it takes long.
const NAMED: [&str; 3] = ["watch", "lock", "compact"];
/// All of those that use whole servers.
const OF_SERVERS: &str = "k8s";

/// Whether a workload uses whole servers.
pub(crate) fn is_of_servers(workload: &str) -> bool {
    WORKLOADS.iter().any(|entry| entry.name == workload && entry.tier == Tier::Kubernetes)
}

fn of_servers() -> impl Iterator<Item = &'static str> {
    // The simulator has no containers.
    let is_simulated = |tier, nodes| tier == Tier::Kubernetes && nodes == Nodes::Hollow;
    WORKLOADS.iter().filter(move |entry| is_simulated(entry.tier, entry.nodes)).map(|entry| entry.name)
}

/// Returns how many clients a workload needs at least, so that some play each of its parts.
pub(crate) fn clients_min(workload: &str, voters: u32) -> u32 {
    match workload {
        // They go round the members, the one that comes later included: a round of writers, a round of watchers.
        "watch" => 2 * (voters + 1),
        // A round of informers on either face, and some who write.
        "k-listwatch" => 3 * voters,
        // Every fourth compacts.
        "compact" => 4,
        _ => 1,
    }
}

/// Returns the workloads that are named.
///
/// # Errors
/// One line that names those there are.
pub(crate) fn chosen(names: &[String]) -> anyhow::Result<Vec<String>> {
    let mut chosen: Vec<&str> = Vec::new();
    for name in names {
        match ALL.into_iter().chain(NAMED).chain(of_servers()).find(|known| *known == name.as_str()) {
            Some(known) => chosen.push(known),
            None if name == "all" => chosen.extend(ALL),
            None if name == OF_SERVERS => chosen.extend(of_servers()),
            None => {
                let known: Vec<&str> = ALL.into_iter().chain(NAMED).chain(of_servers()).collect();
                anyhow::bail!("--workload {name}: choose from all, {OF_SERVERS}, {}", known.join(", "))
            }
        }
    }
    chosen.dedup();
    Ok(chosen.into_iter().map(str::to_owned).collect())
}
