//! Which of chaos's workloads a run has.

/// Those that any faults leave enough of to judge.
const ALL: [&str; 6] = ["register", "cas", "set", "append", "txn", "lease"];
/// Those that are simulated when they are named: under the heaviest faults of a swarm nothing is left to judge, or it takes long.
const NAMED: [&str; 3] = ["watch", "lock", "compact"];

/// Returns how many clients a workload needs at least, so that some play each of its parts.
pub(crate) fn clients_min(workload: &str, voters: u32) -> u32 {
    match workload {
        // They go round the members, the one that comes later included: a round of writers, a round of watchers.
        "watch" => 2 * (voters + 1),
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
        match ALL.iter().chain(&NAMED).find(|known| *known == name) {
            Some(known) => chosen.push(known),
            None if name == "all" => chosen.extend(ALL),
            None => anyhow::bail!(
                "--workload {name}: choose from all, {}",
                [&ALL[..], &NAMED].concat().join(", ")
            ),
        }
    }
    chosen.dedup();
    Ok(chosen.into_iter().map(str::to_owned).collect())
}
