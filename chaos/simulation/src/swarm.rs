//! From a seed to a plan. Every probability is drawn as well: some runs have one kind of fault often, others many kinds seldom, and
//! what is rare under average settings is common in some of them.

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use store::watch::Limits;

use crate::plan::{FORMAT, Fault, Kind, Latency, Plan, Planned, Shape, StoreSettings, Victim};
use crate::workloads;

/// The cluster forms in peace.
const FIRST_FAULT_MS: u64 = 3_000;
const LASTS_MS: u64 = 25_000;
/// Shorter than in production, 15 s: a run is short, and leaders are to change in it. The least that controllers take.
const LOCK_TTL_MS: u64 = 3_000;
/// How much slower clients of whole servers are: a request of theirs makes many of the store.
const SERVERS_SLOWER: u64 = 2;
/// When a member dies for good: early enough that the new one works under faults as well.
const REPLACE_MS: std::ops::Range<u64> = 5_000..14_000;

/// What is asked of all plans.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub voters: usize,
    pub workloads: Vec<String>,
    /// Kinds of faults to draw from.
    pub kinds: Vec<Kind>,
}

/// Draws the plan of a seed.
#[must_use]
pub fn plan(seed: u64, wanted: &Wanted) -> Plan {
    let mut random = SmallRng::seed_from_u64(seed ^ 0x7377_6172_6d5f_706c);
    let voters = u32::try_from(wanted.voters).unwrap_or(3);
    let clients = random.random_range(voters..=voters * 4);
    let max_us = *pick(&mut random, &[2_000, 5_000, 5_000, 20_000, 60_000]);
    let snapshot_entries = *pick(&mut random, &[50, 100, 200, 200, 500, 100_000]);
    let store = StoreSettings {
        segment_bytes: *pick(&mut random, &[32, 64, 256, 256]) * 1024,
        batch_bytes: *pick(&mut random, &[4, 16, 64, 64]) * 1024,
        cache_bytes: *pick(&mut random, &[1, 16, 64]) * 1024,
        snapshot_entries,
        entries_kept: *pick(&mut random, &[1, 10, 50, 50, 100]),
        compare_ms: *pick(&mut random, &[500, 2_000, 2_000, 10_000]),
        watch_ring_bytes: Limits::default().ring_bytes_max,
        watch_queue_revisions: Limits::default().queue_revisions_max,
    };
    let period_ms = random.random_range(15..90) * u64::from(clients) / u64::from(voters * 2);
    let faults = faults(&mut random, wanted);
    let workload = pick(&mut random, &wanted.workloads).clone();
    let is_of_servers = workloads::is_of_servers(&workload);
    // Drawn last, so that all else is what it was when seeds were noted. Watches of whole servers are as in production.
    let store = if is_of_servers { store } else { with_little_for_watches(store, &mut random) };
    Plan {
        format: FORMAT,
        seed,
        voters: wanted.voters,
        clients: clients.max(workloads::clients_min(&workload, voters)),
        workload,
        period_ms: if is_of_servers { (SERVERS_SLOWER * period_ms).max(30) } else { period_ms.max(10) },
        lasts_ms: LASTS_MS,
        latency: Latency { min_us: 200, max_us },
        store,
        lock_ttl_ms: LOCK_TTL_MS,
        faults,
    }
}

/// Has watches fall behind what is kept for them, as those of slow clients do in production.
fn with_little_for_watches(store: StoreSettings, random: &mut SmallRng) -> StoreSettings {
    StoreSettings {
        watch_ring_bytes: *pick(random, &[1 << 10, 1 << 14, store.watch_ring_bytes]),
        watch_queue_revisions: *pick(random, &[4, 32, store.watch_queue_revisions]),
        ..store
    }
}

fn faults(random: &mut SmallRng, wanted: &Wanted) -> Vec<Planned> {
    let has_servers = wanted.workloads.iter().any(|workload| workloads::is_of_servers(workload));
    let fits = |kind: &Kind| kind.is_of_servers().is_none_or(|of_servers| of_servers == has_servers);
    let wanted_kinds = wanted.kinds.iter().copied().filter(fits);
    let mut kinds: Vec<Kind> = wanted_kinds.filter(|kind| *kind != Kind::Replace).collect();
    kinds.shuffle(random);
    kinds.truncate(random.random_range(2..=kinds.len().max(2)));
    let weights: Vec<(Kind, u32)> =
        kinds.into_iter().map(|kind| (kind, random.random_range(1..10))).collect();
    let pause_ms = *pick(random, &[300, 800, 1_500, 1_500, 3_000]);
    let fault_ms = *pick(random, &[200, 1_000, 2_500, 2_500, 5_000]);
    let aims_at_leader = *pick(random, &[0.1, 0.3, 0.5, 0.9]);
    let mut faults = Vec::new();
    let mut at_ms = FIRST_FAULT_MS;
    while at_ms < LASTS_MS {
        let Some(kind) = draw(random, &weights) else { break };
        let victim = if random.random_bool(aims_at_leader) {
            Victim::Leader
        } else {
            Victim::Nth(random.random_range(0..wanted.voters))
        };
        let lasts_ms = random.random_range(10..=2 * fault_ms);
        faults.push(Planned { at_ms, lasts_ms, fault: fault(random, kind, victim) });
        at_ms += random.random_range(pause_ms / 3..=2 * pause_ms);
    }
    if wanted.kinds.contains(&Kind::Replace) && !has_servers && random.random_bool(0.7) {
        let victim = Victim::Nth(random.random_range(0..wanted.voters));
        let in_one = random.random_bool(0.5);
        let at_ms = random.random_range(REPLACE_MS);
        faults.push(Planned { at_ms, lasts_ms: 0, fault: Fault::Replace { victim, in_one } });
        faults.sort_by_key(|planned| planned.at_ms);
    }
    faults
}

fn fault(random: &mut SmallRng, kind: Kind, victim: Victim) -> Fault {
    match kind {
        Kind::Kill => Fault::Kill(victim),
        Kind::PowerLoss if random.random_bool(0.3) => Fault::PowerLossEverywhere,
        Kind::PowerLoss => Fault::PowerLoss(victim),
        Kind::Restart => Fault::RestartEverybody,
        Kind::TornWrite => Fault::TornWrite {
            victim,
            operations: random.random_range(1..40),
            everywhere: random.random_bool(0.3),
        },
        Kind::FailedSync => Fault::FailedSync { victim, syncs: random.random_range(1..20) },
        Kind::FullDisk => Fault::FullDisk(victim),
        Kind::Partition => {
            let shape = *pick(random, &SHAPES);
            Fault::Partition { shape, victim }
        }
        Kind::Hold => Fault::Hold(victim),
        Kind::Delay => Fault::Delay { victim, max_ms: *pick(random, &[30, 100, 400, 1_200]) },
        Kind::Loss => Fault::Loss { victim, one_of: *pick(random, &[20, 100, 500]) },
        Kind::ClockRate => Fault::ClockRate { victim, permille: *pick(random, &[500, 800, 1_250, 2_000]) },
        Kind::MoveLeader => Fault::MoveLeader,
        Kind::Replace => Fault::Replace { victim, in_one: random.random_bool(0.5) },
        Kind::KillAgent => Fault::KillAgent,
    }
}

const SHAPES: [Shape; 8] = [
    Shape::Isolate,
    Shape::Outbound,
    Shape::Inbound,
    Shape::Minority,
    Shape::Bridge,
    Shape::Ring,
    Shape::Single,
    Shape::FromClients,
];

fn pick<'a, T>(random: &mut SmallRng, values: &'a [T]) -> &'a T {
    let index = random.random_range(0..values.len());
    values.get(index).expect("the index is drawn below the length")
}

/// Draws by weight.
fn draw(random: &mut SmallRng, weights: &[(Kind, u32)]) -> Option<Kind> {
    let sum: u32 = weights.iter().map(|(_, weight)| weight).sum();
    if sum == 0 {
        return None;
    }
    let mut left = random.random_range(0..sum);
    for (kind, weight) in weights {
        if left < *weight {
            return Some(*kind);
        }
        left -= weight;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::ValueEnum;

    use super::*;

    fn wanted(kinds: &[Kind]) -> Wanted {
        Wanted { voters: 5, workloads: vec!["register".to_owned()], kinds: kinds.to_vec() }
    }

    fn of_servers(kinds: &[Kind]) -> Wanted {
        Wanted { workloads: vec!["k-occ".to_owned()], ..wanted(kinds) }
    }

    #[test]
    fn equal_seeds_give_equal_plans() {
        let all = wanted(Kind::value_variants());
        assert_eq!(plan(7, &all), plan(7, &all));
        assert_ne!(plan(7, &all), plan(8, &all));
    }

    #[test]
    fn every_kind_is_drawn_and_none_that_is_not_wanted() {
        let all = wanted(Kind::value_variants());
        let kinds = |wanted: &Wanted| -> BTreeSet<Kind> {
            (0..50).flat_map(|seed| plan(seed, wanted).faults).map(|planned| planned.fault.kind()).collect()
        };
        let not = |left_out: Kind| {
            Kind::value_variants().iter().copied().filter(|kind| *kind != left_out).collect()
        };
        let (of_stores, of_whole): (BTreeSet<Kind>, BTreeSet<Kind>) =
            (not(Kind::KillAgent), not(Kind::Replace));
        assert_eq!(kinds(&all), of_stores);
        assert_eq!(kinds(&of_servers(Kind::value_variants())), of_whole);
        assert_eq!(kinds(&wanted(&[Kind::Kill])), BTreeSet::from([Kind::Kill]));
        assert!(kinds(&wanted(&[])).is_empty());
    }

    #[test]
    fn a_workload_with_several_parts_has_clients_for_each() {
        for (workload, least) in [("watch", 12), ("compact", 4), ("register", 1), ("k-listwatch", 15)] {
            let wanted = Wanted { workloads: vec![workload.to_owned()], ..wanted(&[]) };
            assert!((0..50).all(|seed| plan(seed, &wanted).clients >= least), "{workload}");
        }
    }

    #[test]
    fn a_plan_survives_its_file() {
        let plan = plan(3, &wanted(Kind::value_variants()));
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }
}
