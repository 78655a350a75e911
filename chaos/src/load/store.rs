//! All rounds of all contestants on the store's side.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::contestant::Contestant;
use super::sample::{self, Sample};
use super::syncs::{SyncCounter, Unmount};
use super::{Folder, places, process};
use crate::cluster::{Cluster, Member};
use crate::run::say;

/// Load before the first measurement, which opens connections and warms caches.
const WARM_UP: Duration = Duration::from_secs(1);

/// What is measured.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub length: Duration,
    pub rounds: u32,
    pub data: PathBuf,
}

/// What one contestant showed in one round.
#[derive(Clone, Debug)]
pub(super) struct Round {
    /// Its place in the list.
    pub contestant: usize,
    pub samples: Vec<Sample>,
    /// Memory of all members after the load.
    pub memory_bytes: u64,
}

/// Runs all rounds.
///
/// # Errors
/// When members cannot be started or measured: a report leaves out nobody.
pub(super) async fn measure(plan: &Plan, contestants: &[Contestant]) -> anyhow::Result<Vec<Round>> {
    let _unmount = Unmount::at_end();
    let counts_syncs = match SyncCounter::start(&[std::process::id()]).await {
        Ok(counter) => counter.stop().await.is_ok(),
        Err(error) => {
            say(&format!("syncs are not counted: {error:#}"));
            false
        }
    };
    let mut rounds = Vec::new();
    for round in 0..plan.rounds {
        for (contestant, side) in order(round, contestants) {
            let folder = Folder::create(&plan.data)?;
            let measured = one(plan, side, &folder.0, counts_syncs).await;
            let (samples, memory_bytes) = measured.with_context(|| side.name.clone())?;
            for sample in &samples {
                say(&format!("round {} {:<14} {}", round + 1, side.name, sample.line()));
            }
            rounds.push(Round { contestant, samples, memory_bytes });
        }
    }
    Ok(rounds)
}

/// Whoever went first goes last in the next round.
fn order<T>(round: u32, all: &[T]) -> Vec<(usize, &T)> {
    let forward = all.iter().enumerate();
    if round.is_multiple_of(2) { forward.collect() } else { forward.rev().collect() }
}

async fn one(
    plan: &Plan,
    side: &Contestant,
    folder: &Path,
    counts_syncs: bool,
) -> anyhow::Result<(Vec<Sample>, u64)> {
    let mut cluster = Cluster::start(&side.program, &places::free()?, "keelson-bench", folder).await?;
    let load = sample::Load { role: side.role, warm_up: WARM_UP, length: plan.length, counts_syncs };
    let measured = async {
        let samples = sample::all(&cluster, &load).await?;
        let pids = cluster.members.iter().filter_map(Member::pid);
        let memory = pids.map(process::memory).sum::<anyhow::Result<u64>>()?;
        anyhow::Ok((samples, memory))
    };
    let measured = measured.await;
    cluster.stop().await;
    measured
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn every_second_round_runs_backwards() {
        let places =
            |round| order(round, &["ours", "peer"]).iter().map(|(place, _)| *place).collect::<Vec<_>>();
        assert_eq!([places(0), places(1), places(2)].concat(), [0, 1, 1, 0, 0, 1]);
    }
}
