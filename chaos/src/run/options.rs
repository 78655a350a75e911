//! What a run does, and what follows from it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::Terms;
use crate::check::judge::Minimums;
use crate::history::FaultKind;
use crate::nemesis::{Turn, schedule};
use crate::workload::{Entry, Setup};

/// Time without faults at the beginning and at the end.
const WARM_UP_MAX: Duration = Duration::from_secs(3);

/// All options of a run, expanded.
#[derive(Clone, Debug)]
pub struct Options {
    pub workload: &'static Entry,
    /// Faults, in turns.
    pub nemesis: Vec<Turn>,
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
    /// Members stay until Ctrl-C when the run has been judged. Does not change what a run does.
    pub leave_running: bool,
    /// Members of a store that someone else runs; empty for members of the run's own.
    pub endpoints: Vec<String>,
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

    /// What the workload is made from; `prefix` begins its keys.
    #[must_use]
    pub fn setup(&self, prefix: &str) -> Setup {
        let members = u32::try_from(self.members).unwrap_or(u32::MAX);
        Setup { seed: self.seed, prefix: prefix.to_owned(), members }
    }

    /// What the run must do to prove anything: a quarter of the operations that the rate allows, every fault of the plan, and
    /// the leader hit by at least half of those aimed at it.
    #[must_use]
    pub fn minimums(&self) -> Minimums {
        let plan = schedule(self.seed, &self.nemesis, self.faults());
        let rate = usize::try_from(self.rate).unwrap_or(usize::MAX);
        let seconds = usize::try_from(self.time_limit.as_secs()).unwrap_or(usize::MAX);
        // A kind that was asked for is demanded once at least, also where the time is too short for it.
        let mut faults: BTreeMap<FaultKind, usize> =
            self.nemesis.iter().flat_map(|turn| turn.kinds()).map(|kind| (*kind, 0)).collect();
        for kind in plan.iter().flat_map(|planned| planned.turn.kinds()) {
            *faults.entry(*kind).or_default() += 1;
        }
        for count in faults.values_mut() {
            *count = (*count).max(1);
        }
        Minimums {
            operations: rate.saturating_mul(seconds) / 4,
            faults,
            on_leader: plan.iter().filter(|planned| hits_members(&planned.turn)).count().div_ceil(4),
            checkers: self.workload.checkers.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    /// Returns what judging the run needs.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Terms { reproduce: self.reproduce(), minimums: self.minimums() }
    }

    /// Returns the command line that repeats the run.
    #[must_use]
    pub fn reproduce(&self) -> String {
        let turns: Vec<String> = self.nemesis.iter().map(ToString::to_string).collect();
        let nemesis = if turns.is_empty() { "none".to_owned() } else { turns.join(",") };
        let environment: String =
            self.environment.iter().map(|(name, value)| format!(" --member-env {name}={value}")).collect();
        let store = if self.endpoints.is_empty() {
            format!("--members {} --binary {}{environment}", self.members, self.binary.display())
        } else {
            format!("--endpoints {}", self.endpoints.join(","))
        };
        format!(
            "keelson chaos run --workload {} --nemesis {nemesis} --time-limit {}s --nemesis-interval {}ms --rate {} \
             --concurrency {} --seed {} {store}",
            self.workload.name,
            self.time_limit.as_secs(),
            self.nemesis_interval.as_millis(),
            self.rate,
            self.concurrency,
            self.seed,
        )
    }
}

/// Whether it is aimed at members, and may hit the leader.
fn hits_members(turn: &Turn) -> bool {
    turn.kinds().iter().any(|kind| !kind.is_of_agents())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            workload: crate::workload::named("register").unwrap(),
            nemesis: vec![FaultKind::Kill.into(), FaultKind::Partition.into()],
            members: 3,
            time_limit: Duration::from_secs(60),
            nemesis_interval: Duration::from_secs(5),
            rate: 200,
            concurrency: 12,
            seed: 1,
            binary: PathBuf::from("keelson"),
            environment: Vec::new(),
            leave_running: false,
            endpoints: Vec::new(),
        }
    }

    #[test]
    fn a_minute_holds_ten_faults_of_both_kinds() {
        let minimums = options().minimums();
        let checkers = vec!["witness".to_owned(), "linearizability".to_owned()];
        let faults = BTreeMap::from([(FaultKind::Kill, 5), (FaultKind::Partition, 5)]);
        assert_eq!(minimums, Minimums { operations: 3000, faults, on_leader: 3, checkers });
    }

    #[test]
    fn a_run_too_short_for_the_faults_it_asks_for_demands_them_all_the_same() {
        let minimums = Options { time_limit: Duration::from_secs(2), ..options() }.minimums();
        assert_eq!(minimums.faults, BTreeMap::from([(FaultKind::Kill, 1), (FaultKind::Partition, 1)]));
    }

    #[test]
    fn a_combination_counts_for_each_of_its_kinds_and_is_repeated_as_one() {
        let nemesis = vec![Turn::of(&[FaultKind::Kill, FaultKind::Partition])];
        let options = Options { nemesis, ..options() };
        assert_eq!(options.minimums().faults.values().copied().collect::<Vec<_>>(), [10, 10]);
        assert!(options.reproduce().contains(" --nemesis kill+partition "));
    }

    #[test]
    fn clients_share_the_rate() {
        assert_eq!(options().client_period(), Duration::from_millis(60));
    }
}
