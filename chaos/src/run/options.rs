//! What a run does, and what follows from it.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::injects;
use crate::check::judge::Minimums;
use crate::nemesis::{Kind, schedule};

/// Time without faults at the beginning and at the end.
const WARM_UP_MAX: Duration = Duration::from_secs(3);

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Reads, writes and compare-and-swap on a few keys at a time
    Register,
}

/// All options of a run, expanded.
#[derive(Clone, Debug)]
pub struct Options {
    pub workload: Workload,
    pub nemesis: Vec<Kind>,
    pub members: usize,
    pub time_limit: Duration,
    pub nemesis_interval: Duration,
    /// Operations per second of all clients together: a ceiling.
    pub rate: u32,
    pub concurrency: u32,
    pub seed: u64,
    pub binary: PathBuf,
    /// For the members only.
    pub environment: Vec<(String, String)>,
}

impl Options {
    /// Time without faults at the beginning and at the end.
    #[must_use]
    pub fn warm_up(&self) -> Duration {
        WARM_UP_MAX.min(self.time_limit / 10)
    }

    /// Number of faults that fit.
    #[must_use]
    pub fn faults(&self) -> usize {
        let time = self.time_limit.saturating_sub(2 * self.warm_up());
        let count = time.as_millis() / self.nemesis_interval.as_millis().max(1);
        usize::try_from(count).unwrap_or(0)
    }

    /// How long a fault lasts: most of the interval, so that an election happens within it.
    #[must_use]
    pub fn fault_lasting(&self) -> Duration {
        self.nemesis_interval * 13 / 20
    }

    /// Time between two operations of one client.
    #[must_use]
    pub fn client_period(&self) -> Duration {
        Duration::from_secs(1) * self.concurrency / self.rate.max(1)
    }

    /// What the run must do to prove anything: a quarter of the operations that the rate allows, every fault of the plan, and
    /// the leader hit by at least half of those aimed at it.
    #[must_use]
    pub fn minimums(&self) -> Minimums {
        let plan = schedule(self.seed, &self.nemesis, self.faults());
        let planned = |kind| plan.iter().filter(|planned| planned.kind == kind).count();
        let rate = usize::try_from(self.rate).unwrap_or(usize::MAX);
        let seconds = usize::try_from(self.time_limit.as_secs()).unwrap_or(usize::MAX);
        let at_least_one = |kind| planned(kind).max(usize::from(injects(self, kind)));
        Minimums {
            operations: rate.saturating_mul(seconds) / 4,
            kills: at_least_one(Kind::Kill),
            partitions: at_least_one(Kind::Partition),
            on_leader: plan.len().div_ceil(4),
        }
    }

    /// Returns the command line that repeats the run.
    #[must_use]
    pub fn reproduce(&self) -> String {
        let kinds: Vec<&str> = self.nemesis.iter().map(|kind| kind.name()).collect();
        let nemesis = if kinds.is_empty() { "none".to_owned() } else { kinds.join(",") };
        let environment: String =
            self.environment.iter().map(|(name, value)| format!(" --member-env {name}={value}")).collect();
        format!(
            "keelson chaos run --workload register --nemesis {nemesis} --members {} --time-limit {}s \
             --nemesis-interval {}ms --rate {} --concurrency {} --seed {} --binary {}{environment}",
            self.members,
            self.time_limit.as_secs(),
            self.nemesis_interval.as_millis(),
            self.rate,
            self.concurrency,
            self.seed,
            self.binary.display(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            workload: Workload::Register,
            nemesis: vec![Kind::Kill, Kind::Partition],
            members: 3,
            time_limit: Duration::from_secs(60),
            nemesis_interval: Duration::from_secs(5),
            rate: 200,
            concurrency: 12,
            seed: 1,
            binary: PathBuf::from("keelson"),
            environment: Vec::new(),
        }
    }

    #[test]
    fn a_minute_holds_ten_faults_of_both_kinds() {
        let minimums = options().minimums();
        assert_eq!(minimums, Minimums { operations: 3000, kills: 5, partitions: 5, on_leader: 3 });
    }

    #[test]
    fn a_run_too_short_for_the_faults_it_asks_for_demands_them_all_the_same() {
        let minimums = Options { time_limit: Duration::from_secs(2), ..options() }.minimums();
        assert_eq!((minimums.kills, minimums.partitions), (1, 1));
    }

    #[test]
    fn clients_share_the_rate() {
        assert_eq!(options().client_period(), Duration::from_millis(60));
    }
}
