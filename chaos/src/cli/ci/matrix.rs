//! What `keelson chaos ci` runs: every workload under every bundle of faults with 3 and with 5 members, and the oracle on etcd. Pure.
//!
//! Where the budget is too small for all of it, the seed decides what is left out, so that other seeds reach the rest; every workload comes
//! once before any comes twice.

use std::time::Duration;

/// Numbers of members.
const MEMBERS: [usize; 2] = [3, 5];
/// Sets of faults, as on the command line.
pub(super) const BUNDLES: [&str; 5] = ["std", "net", "disk", "clock", "member"];
/// Workloads that also run on etcd, which is known to keep its promises: a failure there is one of the harness.
const ORACLE: [&str; 2] = ["register", "append"];
/// Faults of the runs on etcd.
const ORACLE_NEMESIS: &str = "kill,partition";
/// From one fault to the next.
const INTERVAL: Duration = Duration::from_secs(5);
/// Time at the beginning and the end of a run without faults.
const CALM: Duration = Duration::from_secs(6);
/// Shortest and longest run.
const TIME_MIN: Duration = Duration::from_secs(20);
const TIME_MAX: Duration = Duration::from_secs(180);
/// What a run takes beside its time limit: start, recovery, audit, checkers.
const OVERHEAD: Duration = Duration::from_secs(15);

/// What there is to choose from.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub workloads: Vec<String>,
    pub bundles: Vec<Bundle>,
    pub has_etcd: bool,
    pub budget: Duration,
    pub seed: u64,
}

/// A set of faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bundle {
    /// As on the command line.
    pub nemesis: String,
    /// Faults that take turns: each must come once.
    pub turns: usize,
}

/// Whose store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Store {
    Ours,
    Etcd,
}

/// One run to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub workload: String,
    pub nemesis: String,
    pub members: usize,
    pub store: Store,
    pub seed: u64,
    pub time_limit: Duration,
}

impl Planned {
    /// Whether what is left of the budget is enough for it.
    pub(super) fn fits(&self, left: Duration) -> bool {
        self.expected() <= left
    }

    /// Returns what it takes at most, as far as is known before.
    fn expected(&self) -> Duration {
        self.time_limit + OVERHEAD
    }

    /// Returns a name for its folder.
    pub(super) fn name(&self, place: usize) -> String {
        let store = match self.store {
            Store::Ours => "",
            Store::Etcd => "-etcd",
        };
        let nemesis: String = self
            .nemesis
            .chars()
            .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' })
            .collect();
        format!("{place:03}-{}-{}-{}{store}", self.workload, shorten(&nemesis), self.members)
    }
}

/// A folder's name has a limit, and a list of many faults is long.
fn shorten(name: &str) -> &str {
    name.get(..40).unwrap_or(name)
}

/// Returns all runs in the order in which they are to be done. Where the budget holds them all, they share what is left of it.
pub(super) fn plan(choice: &Choice) -> Vec<Planned> {
    let mut all = cells(choice);
    let needed: Duration = all.iter().map(Planned::expected).sum();
    let spare = choice.budget.saturating_sub(needed);
    let share = spare / u32::try_from(all.len().max(1)).unwrap_or(u32::MAX);
    for planned in &mut all {
        let time_limit = (planned.time_limit + share).min(TIME_MAX.max(planned.time_limit));
        planned.time_limit = Duration::from_secs(time_limit.as_secs());
    }
    all
}

/// Every run there could be, in the order in which they are to be done.
fn cells(choice: &Choice) -> Vec<Planned> {
    let mut cells = Vec::new();
    let mut add = |workload: &String, nemesis: &str, turns: usize, members, store| {
        let seed = choice.seed.wrapping_add(u64::try_from(cells.len()).unwrap_or(0));
        let turns = INTERVAL * u32::try_from(turns).unwrap_or(u32::MAX) + CALM;
        let (workload, nemesis, time_limit) = (workload.clone(), nemesis.to_owned(), turns.max(TIME_MIN));
        cells.push(Planned { workload, nemesis, members, store, seed, time_limit });
    };
    if choice.has_etcd {
        for workload in choice.workloads.iter().filter(|name| ORACLE.contains(&name.as_str())) {
            add(workload, ORACLE_NEMESIS, 2, 3, Store::Etcd);
        }
    }
    let turn = usize::try_from(choice.seed % 720_720).unwrap_or(0);
    let count = choice.bundles.len();
    for round in 0..count * MEMBERS.len() {
        for (place, workload) in choice.workloads.iter().enumerate() {
            // The second time around, each pair meets the other number of members.
            let (lap, round) = (round / count.max(1), round % count.max(1));
            let step = place + round + turn;
            let bundle = choice.bundles.get(step % count.max(1));
            let members = MEMBERS.get((step + lap) % MEMBERS.len());
            if let (Some(bundle), Some(members)) = (bundle, members) {
                add(workload, &bundle.nemesis, bundle.turns, *members, Store::Ours);
            }
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn choice(workloads: usize, bundles: usize, minutes: u64, seed: u64) -> Choice {
        let names = ["register", "append", "set", "watch", "lease", "lock"];
        let bundle = |number: usize| Bundle { nemesis: format!("fault-{number}"), turns: 1 + number };
        Choice {
            workloads: names.iter().take(workloads).map(|&name| name.to_owned()).collect(),
            bundles: (0..bundles).map(bundle).collect(),
            has_etcd: true,
            budget: Duration::from_secs(60 * minutes),
            seed,
        }
    }

    #[test]
    fn a_large_budget_holds_every_workload_under_every_bundle_with_both_sizes_once() {
        for (workloads, bundles) in [(1, 1), (2, 4), (4, 2), (6, 5), (3, 3)] {
            for seed in 0..7 {
                let runs = plan(&choice(workloads, bundles, 600, seed));
                let ours: Vec<_> = runs.iter().filter(|run| run.store == Store::Ours).collect();
                let distinct: BTreeSet<_> =
                    ours.iter().map(|run| (&run.workload, &run.nemesis, run.members)).collect();
                assert!(runs.iter().map(Planned::expected).sum::<Duration>() <= Duration::from_secs(36_000));
                assert_eq!(ours.len(), workloads * bundles * 2, "{workloads} {bundles} {seed}");
                assert_eq!(distinct.len(), ours.len(), "{workloads} {bundles} {seed}");
            }
        }
    }

    /// The runs that a budget holds, when each takes what is expected.
    fn held(choice: &Choice) -> Vec<Planned> {
        let mut left = choice.budget;
        let mut runs = plan(choice);
        runs.retain(|run| {
            let fits = run.fits(left);
            left -= if fits { run.expected() } else { Duration::ZERO };
            fits
        });
        runs
    }

    #[test]
    fn a_small_budget_is_kept_and_reaches_every_workload_first() {
        let runs = held(&choice(6, 5, 6, 3));
        assert!(runs.iter().map(Planned::expected).sum::<Duration>() <= Duration::from_secs(360));
        assert_eq!(plan(&choice(6, 5, 6, 3)).len(), 6 * 5 * 2 + 2);
        let ours = runs.iter().filter(|run| run.store == Store::Ours);
        let first: BTreeSet<_> = ours.take(6).map(|run| &run.workload).collect();
        assert_eq!(first.len(), 6, "none twice before all once");
        assert!(held(&choice(6, 5, 0, 3)).is_empty());
    }

    #[test]
    fn other_seeds_reach_other_pairs() {
        let pairs = |seed| -> BTreeSet<(String, String)> {
            held(&choice(6, 5, 8, seed)).into_iter().map(|run| (run.workload, run.nemesis)).collect()
        };
        assert_eq!(pairs(4), pairs(4));
        assert_ne!(pairs(4), pairs(5));
    }

    #[test]
    fn every_fault_of_a_bundle_has_its_turn() {
        let runs = plan(&choice(1, 30, 6000, 0));
        for run in runs.iter().filter(|run| run.store == Store::Ours) {
            let number: u32 = run.nemesis.trim_start_matches("fault-").parse().unwrap();
            assert!(run.time_limit >= INTERVAL * (number + 1) + CALM, "{run:?}");
        }
    }

    #[test]
    fn the_oracle_runs_where_there_is_an_etcd_and_a_workload_that_it_knows() {
        let oracle = |choice: &Choice| -> Vec<String> {
            let runs = plan(choice);
            runs.into_iter().filter(|run| run.store == Store::Etcd).map(|run| run.workload).collect()
        };
        assert_eq!(oracle(&choice(6, 2, 600, 1)), ["register", "append"]);
        assert!(oracle(&Choice { has_etcd: false, ..choice(6, 2, 600, 1) }).is_empty());
    }

    #[test]
    fn names_of_folders_are_plain() {
        let runs = plan(&Choice {
            bundles: vec![Bundle { nemesis: "kill+pause,partition".to_owned(), turns: 2 }],
            has_etcd: false,
            ..choice(1, 1, 600, 0)
        });
        assert_eq!(runs[0].name(7), "007-register-kill-pause-partition-3");
    }
}
