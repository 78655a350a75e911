//! Plans for what chance alone seldom meets. Each changes a plan that a seed has drawn; what it leaves, the seed decides.

use crate::plan::{Fault, Latency, Plan, Planned, Shape, Victim};

/// Virtual time of the first aimed fault: the cluster has formed and works.
const FIRST_MS: u64 = 3_000;

/// Leaves the plan as it is.
pub(super) fn as_drawn(_: &mut Plan) {}

/// The leader ends, and as soon as another one shows itself, the power of all goes: what was promised in the election is on disks, or
/// nowhere. Messages are slow, so that the new leader's first entry, whose sync would carry votes along, is still on its way.
pub(super) fn at_elections(plan: &mut Plan) {
    const INTERVAL_MS: u64 = 5_000;
    plan.latency = Latency { min_us: 10_000, max_us: 60_000 };
    let planned = |at_ms, lasts_ms, fault| Planned { at_ms, lasts_ms, fault };
    plan.faults = (FIRST_MS..plan.lasts_ms - INTERVAL_MS)
        .step_by(usize::try_from(INTERVAL_MS).unwrap_or(usize::MAX))
        .flat_map(|at_ms| {
            [
                planned(at_ms, 0, Fault::PowerLossAtElection),
                planned(at_ms, 2_000, Fault::Kill(Victim::Leader)),
            ]
        })
        .collect();
}

/// Leaders end one after the other. Messages are slow, so that several stand for election at once.
pub(super) fn leaders_end(plan: &mut Plan) {
    const INTERVAL_MS: usize = 3_000;
    write_often(plan);
    plan.latency = Latency { min_us: 1_000, max_us: 60_000 };
    plan.faults = (FIRST_MS..plan.lasts_ms)
        .step_by(INTERVAL_MS)
        .map(|at_ms| Planned { at_ms, lasts_ms: 1_500, fault: Fault::Kill(Victim::Leader) })
        .collect();
}

/// A member misses a second of writes. Then their leader ends, and the member hears the others again once they, too, would give a vote.
pub(super) fn laggards_stand(plan: &mut Plan) {
    const INTERVAL_MS: usize = 4_000;
    const MISSED_MS: u64 = 1_000;
    /// Longer than a follower keeps to a leader that it no longer hears, shorter than it waits before it stands itself.
    const ALONE_MS: u64 = 750;
    plan.latency = Latency { min_us: 200, max_us: 5_000 };
    plan.faults = (FIRST_MS..plan.lasts_ms)
        .step_by(INTERVAL_MS)
        .enumerate()
        .flat_map(|(nth, at_ms)| {
            let isolate = Fault::Partition { shape: Shape::Isolate, victim: Victim::Nth(nth) };
            let kill = Fault::Kill(Victim::Leader);
            [
                Planned { at_ms, lasts_ms: MISSED_MS + ALONE_MS, fault: isolate },
                Planned { at_ms: at_ms + MISSED_MS, lasts_ms: 2_000, fault: kill },
            ]
        })
        .collect();
}

/// As many members as can be spared hear nothing, nearly all the time, so that everybody else counts. These get on at a pace of their own
/// each: messages seldom take equally long, and there are many.
pub(super) fn bare_quorum(plan: &mut Plan) {
    const INTERVAL_MS: usize = 5_000;
    write_often(plan);
    plan.latency = Latency { min_us: 200, max_us: 30_000 };
    plan.faults = (FIRST_MS..plan.lasts_ms)
        .step_by(INTERVAL_MS)
        .enumerate()
        .map(|(nth, at_ms)| {
            let fault = Fault::Partition { shape: Shape::Minority, victim: Victim::Nth(nth) };
            Planned { at_ms, lasts_ms: 4_000, fault }
        })
        .collect();
}

fn write_often(plan: &mut Plan) {
    plan.clients = 20;
    plan.period_ms = 10;
}

/// The power of all machines goes at once, again and again.
pub(super) fn power_goes_everywhere(plan: &mut Plan) {
    const INTERVAL_MS: usize = 2_500;
    plan.faults = (FIRST_MS..plan.lasts_ms)
        .step_by(INTERVAL_MS)
        .map(|at_ms| Planned { at_ms, lasts_ms: 200, fault: Fault::PowerLossEverywhere })
        .collect();
}

/// The power of one machine goes in the middle of a write, again and again: of what was written last, any part has reached the disk.
pub(super) fn power_goes_in_writes(plan: &mut Plan) {
    const INTERVAL_MS: usize = 1_500;
    let times = (FIRST_MS..plan.lasts_ms).step_by(INTERVAL_MS);
    let torn = times.zip((0..plan.voters).cycle()).map(|(at_ms, number)| {
        let fault = Fault::TornWrite { victim: Victim::Nth(number), operations: 1, everywhere: false };
        Planned { at_ms, lasts_ms: 200, fault }
    });
    plan.faults = torn.collect();
}

/// Members keep next to nothing for watches that are behind: those lose their queues, and read from storage.
pub(super) fn little_for_watches(plan: &mut Plan) {
    plan.store.watch_ring_bytes = 1 << 10;
    plan.store.watch_queue_revisions = 4;
}

/// Members do not compare their states, so that none is found to differ and begins anew: what it holds is seen in the end.
pub(super) fn nobody_compares(plan: &mut Plan) {
    plan.store.compare_ms = 1_000_000;
}

/// Logs are short and states are taken over whole: who was away for a moment needs a snapshot.
pub(super) fn short_logs(plan: &mut Plan) {
    plan.store.snapshot_entries = 50;
    plan.store.entries_kept = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Kind;
    use crate::plants::Simulated;

    fn aimed(aim: fn(&mut Plan)) -> Plan {
        Simulated { aim, ..Simulated::USUAL }.plan(1)
    }

    #[test]
    fn every_election_is_waited_for_before_it_is_caused() {
        let faults = aimed(at_elections).faults;
        assert!(faults.len() >= 6, "{faults:?}");
        for pair in faults.chunks(2) {
            assert_eq!([pair[0].fault.kind(), pair[1].fault.kind()], [Kind::PowerLoss, Kind::Kill]);
            assert_eq!(pair[0].at_ms, pair[1].at_ms);
        }
    }

    #[test]
    fn a_leader_ends_while_a_member_hears_nothing() {
        let faults = aimed(laggards_stand).faults;
        assert!(faults.len() >= 10, "{faults:?}");
        for pair in faults.chunks(2) {
            assert_eq!([pair[0].fault.kind(), pair[1].fault.kind()], [Kind::Partition, Kind::Kill]);
            let heard_again = pair[0].at_ms + pair[0].lasts_ms;
            assert!(pair[0].at_ms < pair[1].at_ms && pair[1].at_ms < heard_again, "{pair:?}");
            assert!(heard_again < pair[1].at_ms + pair[1].lasts_ms, "the leader is back too soon: {pair:?}");
        }
    }

    #[test]
    fn faults_of_one_kind_do_not_overlap() {
        for aim in [leaders_end, bare_quorum] {
            let faults = aimed(aim).faults;
            assert!(faults.len() >= 5, "{faults:?}");
            assert!(faults.windows(2).all(|pair| pair[0].at_ms + pair[0].lasts_ms < pair[1].at_ms));
        }
    }

    #[test]
    fn aims_leave_what_is_not_theirs_to_the_seed() {
        let (drawn, short) = (aimed(as_drawn), aimed(short_logs));
        assert_eq!(drawn.faults, short.faults);
        assert_eq!((drawn.clients, drawn.period_ms), (short.clients, short.period_ms));
        assert!(aimed(power_goes_everywhere).faults.len() > 5);
        assert!(aimed(power_goes_in_writes).faults.len() > 10);
        let (narrow, store) = (aimed(little_for_watches), drawn.store);
        assert_eq!(narrow.store.snapshot_entries, store.snapshot_entries);
        assert!(narrow.store.watch_queue_revisions <= store.watch_queue_revisions);
    }
}
