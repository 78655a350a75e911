//! One plan from its beginning to its verdict.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use chaos::check::judge::{Counts, Judgement, Minimums, judge_within};
use chaos::check::linearizability::Limits;
use chaos::check::{Record, Verdict, Violation};
use chaos::history::{Event, Writer};
use chaos::run::{Folder, Terms};
use serde::{Deserialize, Serialize};

use crate::clients::{self, Logs, Shown};
use crate::control_plane::{AGENTS, ControlPlane, MakeControlPlane, Process};
use crate::invariants::Invariants;
use crate::links::CLIENTS;
use crate::machine::lock;
use crate::member;
use crate::nemesis::{Nemesis, Tally};
use crate::plan::Plan;
use crate::replacement::Replacement;
use crate::world::{Clock, Phase, World};

/// Longest virtual time behind the last fault; clients give up long before, also where each server's controllers are waited for in
/// vain.
const AUDIT_MAX: Duration = Duration::from_secs(600);
/// How much the search for an order may do for each key: a tenth of a second.
const SEARCH: Limits = Limits { steps: 200_000, bytes: 64 << 20 };
/// Operations with a known outcome that a run must have.
const OPERATIONS_MIN: usize = 200;
/// The same where they are requests to whole servers, each of which makes many of the store.
const REQUESTS_MIN: usize = 60;
/// Said of a plan for whole servers where there are none.
pub(crate) const STORES_ALONE: &str =
    "this program simulates stores alone; whole servers are in `keelson chaos sim`";
/// Who finds what members may never show.
pub(crate) const INVARIANTS: &str = "invariants";
/// Who finds that a member is not there though it should.
pub(crate) const MEMBERS: &str = "members";
/// Who finds that a healed member does not serve or show its log.
pub(crate) const RECOVERY: &str = "recovery";
/// Steps between two looks at the invariants.
const LOOK_STEPS: u64 = 5;

/// What a run left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub seed: u64,
    pub voters: usize,
    /// `pass`, `fail` or `invalid`.
    pub verdict: String,
    /// Broken promises, or reasons why it proves nothing.
    pub findings: Vec<String>,
    /// Who found the broken promises: checkers of chaos, and the simulator's own.
    #[serde(default)]
    pub found_by: Vec<String>,
    pub operations: usize,
    pub unknown: usize,
    pub failed: usize,
    pub revisions: usize,
    pub faults: BTreeMap<String, u64>,
    pub leader_changes: u64,
    pub virtual_ms: u64,
    pub real_ms: u64,
    /// Equal in all runs of one plan.
    pub trace: String,
}

/// Carries out a plan and judges what happened; everything is written to `folder`.
///
/// # Errors
/// When the folder cannot be written or a host of the simulator fails: the harness is broken then.
pub fn run(
    plan: &Plan,
    folder: &Folder,
    reproduce: &str,
    control_plane: Option<MakeControlPlane>,
) -> anyhow::Result<Summary> {
    let began = Instant::now();
    let path = folder.path();
    let workload = chaos::workload::named(&plan.workload).map_err(anyhow::Error::msg)?;
    let checkers = workload.checkers.iter().map(|&name| name.to_owned()).collect();
    let operations = if plan.is_of_servers() { REQUESTS_MIN } else { OPERATIONS_MIN };
    let minimums = Minimums { operations, faults: BTreeMap::new(), on_leader: 0, checkers };
    let terms = Terms { reproduce: reproduce.to_owned(), minimums };
    folder.write_terms(&terms)?;
    let simulated = simulate(plan, path, control_plane)?;
    let Shown { logs, live } = lock(&simulated.logs).clone();
    let record = Record { events: simulated.events.clone(), logs, live };
    folder.write_logs(&record)?;
    let judged = judge_within(&record, &terms.minimums, SEARCH);
    let outcome = Judgement { verdict: simulated.verdict(&judged), ..judged };
    let trace = simulated.trace(&record.logs)?;
    folder.write_outcome(&terms, &outcome)?;
    Ok(summary(plan, &simulated, &outcome, &trace, began.elapsed()))
}

fn summary(
    plan: &Plan,
    simulated: &Simulated,
    outcome: &chaos::run::Outcome,
    trace: &str,
    real: Duration,
) -> Summary {
    let (verdict, findings) = match &outcome.verdict {
        Verdict::Pass => ("pass", Vec::new()),
        Verdict::Fail(violations) => ("fail", violations.iter().map(ToString::to_string).collect()),
        Verdict::Invalid(reasons) => ("invalid", reasons.clone()),
    };
    let Counts { operations, unknown, failed, .. } = outcome.counts;
    let shown = lock(&simulated.logs);
    let revisions = shown.logs.iter().map(|(_, log)| log.len()).max().unwrap_or(0);
    let faults = simulated.tally.faults.iter();
    Summary {
        seed: plan.seed,
        voters: plan.voters,
        verdict: verdict.to_owned(),
        findings,
        found_by: simulated.found_by(outcome),
        operations,
        unknown,
        failed,
        revisions,
        faults: faults.map(|(kind, count)| (kind.name().to_owned(), *count)).collect(),
        leader_changes: simulated.leader_changes,
        virtual_ms: u64::try_from(simulated.lasted.as_millis()).unwrap_or(u64::MAX),
        real_ms: u64::try_from(real.as_millis()).unwrap_or(u64::MAX),
        trace: trace.to_owned(),
    }
}

/// What there is to judge.
struct Simulated {
    events: Vec<Event>,
    logs: Logs,
    tally: Tally,
    /// What members have shown that must never be.
    broken: Vec<Violation>,
    /// Members that are not there though they should.
    ended_badly: Vec<Violation>,
    leader_changes: u64,
    states: u64,
    disk_operations: Vec<u64>,
    lasted: Duration,
}

impl Simulated {
    /// Adds what only the simulator sees.
    fn verdict(&self, judged: &Judgement) -> Verdict {
        let mut violations = [self.broken.as_slice(), &self.ended_badly].concat();
        let reasons: Vec<String> = match &judged.verdict {
            Verdict::Pass => Vec::new(),
            Verdict::Fail(found) => {
                violations.extend(found.iter().cloned());
                Vec::new()
            }
            // The witness has proved the order already. A search that gives up takes nothing away from that.
            Verdict::Invalid(reasons) => {
                reasons.iter().filter(|reason| !reason.starts_with("linearizability: ")).cloned().collect()
            }
        };
        if !violations.is_empty() {
            Verdict::Fail(violations)
        } else if reasons.is_empty() {
            Verdict::Pass
        } else {
            Verdict::Invalid(reasons)
        }
    }

    /// Names everyone who found something, each once.
    fn found_by(&self, judged: &Judgement) -> Vec<String> {
        let by = |found: &[Violation], name| (!found.is_empty()).then_some(name);
        let checkers = judged.opinions.iter().filter_map(|opinion| by(&opinion.violations, opinion.checker));
        let own = [by(&self.broken, INVARIANTS), by(&self.ended_badly, MEMBERS)];
        let named: usize = judged.opinions.iter().map(|opinion| opinion.violations.len()).sum();
        // What no checker of the history says, chaos has seen of the members once everything was healed.
        let told = match &judged.verdict {
            Verdict::Fail(violations) => violations.len(),
            Verdict::Pass | Verdict::Invalid(_) => 0,
        };
        let own_told = self.broken.len() + self.ended_badly.len();
        let recovery = (told > named + own_told).then_some(RECOVERY);
        checkers.chain(own.into_iter().flatten()).chain(recovery).map(str::to_owned).collect()
    }

    /// Returns one number for everything that happened.
    fn trace(&self, logs: &[(String, Vec<chaos::check::witness::LogEntry>)]) -> anyhow::Result<String> {
        let mut hasher = DefaultHasher::new();
        serde_json::to_string(&self.events)?.hash(&mut hasher);
        serde_json::to_string(logs)?.hash(&mut hasher);
        self.tally.hash(&mut hasher);
        self.states.hash(&mut hasher);
        self.disk_operations.hash(&mut hasher);
        Ok(format!("{:016x}", hasher.finish()))
    }
}

fn simulate(plan: &Plan, path: &Path, make: Option<MakeControlPlane>) -> anyhow::Result<Simulated> {
    let control_plane = match make {
        Some(make) if plan.is_of_servers() => Some(make()?),
        None if plan.is_of_servers() => anyhow::bail!(STORES_ALONE),
        Some(_) | None => None,
    };
    let clock = Arc::new(Clock::default());
    let reading = Arc::clone(&clock);
    let history = Writer::create_with_clock(&path.join("history.jsonl"), move || reading.read())?;
    let world = Arc::new(World::new(plan.clone(), clock, Arc::new(history), control_plane));
    let logs = Logs::default();
    let mut sim = turmoil::Builder::new()
        .rng_seed(plan.seed)
        .enable_random_order()
        .simulation_duration(Duration::from_millis(plan.lasts_ms) + AUDIT_MAX)
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_micros(plan.latency.min_us))
        .max_message_latency(Duration::from_micros(plan.latency.max_us))
        .tcp_capacity(16 * 1024)
        .build();
    for machine in &world.machines {
        let (world, machine) = (Arc::clone(&world), Arc::clone(machine));
        let name = machine.name.clone();
        sim.host(name, move || member::run(Arc::clone(&world), Arc::clone(&machine)));
    }
    if let Some(control_plane) = &world.control_plane {
        let (world, control_plane) = (Arc::clone(&world), Arc::clone(control_plane));
        sim.host(AGENTS, move || agents(Arc::clone(&world), Arc::clone(&control_plane)));
    }
    sim.client(CLIENTS, clients::run(Arc::clone(&world), Arc::clone(&logs)));
    let mut invariants = Invariants::default();
    let tally = steps(&mut sim, &world, &mut invariants)?;
    let lasted = sim.elapsed();
    let disk_operations = world.machines.iter().map(|machine| machine.disk.operations()).collect();
    drop(sim);
    let states = invariants.trace();
    let Invariants { violations: broken, leader_changes, .. } = invariants;
    let ended_badly = ended_badly(&world, &tally);
    let events = world.history.finish()?;
    Ok(Simulated {
        events,
        logs,
        tally,
        broken,
        ended_badly,
        leader_changes,
        states,
        disk_operations,
        lasted,
    })
}

async fn agents(world: Arc<World>, control_plane: Arc<dyn ControlPlane>) -> turmoil::Result {
    let start = world.agents.starts.fetch_add(1, Ordering::Relaxed) + 1;
    if world.has_drifting_clocks {
        tokio::spawn(member::keep_rate(Arc::clone(&world.agents)));
    }
    Ok(control_plane.agents(Process::new(&world.agents, start, &world.plan)).await?)
}

/// Steps until clients have finished.
fn steps(
    sim: &mut turmoil::Sim<'_>,
    world: &Arc<World>,
    invariants: &mut Invariants,
) -> anyhow::Result<Tally> {
    let lasts = Duration::from_millis(world.plan.lasts_ms);
    let mut nemesis = Nemesis::new(world);
    for step in 0_u64.. {
        let now = sim.elapsed();
        world.clock.set(now);
        if now < lasts {
            nemesis.act(sim)?;
        } else if world.healed().is_none() {
            let present = nemesis.heal(sim)?;
            *lock(&world.phase) = Phase::Healed { present };
        } else {
            nemesis.watch_healed(sim)?;
        }
        let is_over = sim.step().map_err(|error| anyhow::anyhow!("a simulated host has failed: {error}"))?;
        if step % LOOK_STEPS == 0 {
            invariants.look(world);
        }
        if is_over {
            break;
        }
    }
    Ok(nemesis.tally)
}

fn ended_badly(world: &World, tally: &Tally) -> Vec<Violation> {
    let mut violations: Vec<Violation> = Vec::new();
    let mut broken = |rule, sentence| violations.push(Violation { rule, sentence, operations: Vec::new() });
    for fatal in &tally.fatals {
        broken("member ended", format!("a member ended although its disk was well: {fatal}"));
    }
    let replacement = *lock(&world.replacement);
    match replacement {
        Replacement::NobodyDied | Replacement::Done { .. } => {}
        Replacement::Dead { .. } | Replacement::Removed { .. } | Replacement::Added { .. } => {
            broken("no replacement", format!("the member that died was not replaced: {replacement:?}"));
        }
    }
    violations
}

/// Opens an empty folder for a run.
///
/// # Errors
/// When it cannot be made.
pub fn folder(path: &Path) -> anyhow::Result<Folder> {
    Folder::create(path).with_context(|| format!("--output {}", path.display()))
}
