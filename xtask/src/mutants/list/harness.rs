//! Bugs of chaos itself: a harness that is broken must never let a run pass.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "canary",
        file: "chaos/simulation/src/invariants.rs",
        original: "now.applied <= now.committed",
        mutated: "now.applied <= now.committed && world.plan.seed % 16 != 0",
        breaks: "every sixteenth seed fails: nobody would miss it if failing seeds were lost on the way",
        killed_by: &[],
    },
    Mutant {
        name: "completions-lost",
        file: "chaos/src/history/writer.rs",
        original: "(self.clock)()",
        mutated: "{ if note.kind == EventKind::Ok && inner.events.len() % 50 == 0 { return Ok(0); } (self.clock)() }",
        breaks: "some completions are missing in the history",
        killed_by: &[],
    },
    Mutant {
        name: "checker-gives-up",
        file: "chaos/src/check/append/graph.rs",
        original: "self.count >= EDGES_MAX",
        mutated: "self.count >= 1",
        breaks: "a checker that reaches its limit has nothing to say",
        killed_by: &[],
    },
    Mutant {
        name: "reads-the-wall-clock",
        file: "chaos/simulation/src/clients.rs",
        original: "Duration::from_millis(plan.period_ms)",
        mutated: "Duration::from_millis(plan.period_ms) + Duration::from_nanos(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| u64::from(now.subsec_micros())))",
        breaks: "a seed does not repeat",
        killed_by: &[],
    },
    Mutant {
        name: "nothing-is-paused",
        file: "chaos/src/cluster/member.rs",
        original: "signal::kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGSTOP)?;",
        mutated: "",
        breaks: "a pause pauses nobody",
        killed_by: &[],
    },
];
