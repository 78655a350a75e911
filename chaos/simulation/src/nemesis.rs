//! Carries out the faults of a plan, between the steps of the simulator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chaos::history::{EventKind, Fault as Told, FaultKind, Function, Note, Phase, Process};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use store::kv::Kv;
use turmoil::Sim;

use crate::control_plane::AGENTS;
use crate::links::{self, Effect, Host, Hosts};
use crate::machine::{Health, Machine, Order, lock};
use crate::member::first_id;
use crate::plan::{Fault, Kind, Planned, Victim};
use crate::replacement::Replacement;
use crate::world::World;

/// Faults under way and still to come.
pub(crate) struct Nemesis {
    world: Arc<World>,
    /// What a crash tears and loses.
    random: SmallRng,
    to_come: std::vec::IntoIter<Planned>,
    next: Option<Planned>,
    /// Machines that are there.
    present: Vec<usize>,
    /// Hosts beside the members.
    outsiders: Vec<Host>,
    /// When a crashed member comes back.
    returns: BTreeMap<usize, Duration>,
    /// How long a member stays down once it has ended.
    down: BTreeMap<usize, Duration>,
    /// What was done to the disks that are about to fail.
    sick: BTreeMap<usize, Kind>,
    /// Crashes that are not over, as the history tells of them.
    crashed: BTreeMap<usize, Telling>,
    /// When killed agents come back.
    agents_return: Option<(Duration, Telling)>,
    /// Network faults.
    effects: Vec<Lasting<Effect>>,
    /// Clocks that run at another rate, in thousandths of the usual one.
    rates: Vec<Lasting<u32>>,
    /// Power losses that wait for an election: the term that must be over, and how long members stay down.
    waiting: Vec<(u64, Duration)>,
    /// How many faults the history tells of.
    told: u32,
    pub(crate) tally: Tally,
}

/// What a history says of one fault.
#[derive(Clone, Debug)]
struct Telling {
    number: u32,
    kind: FaultKind,
    member: String,
    hit_leader: bool,
}

/// A fault that goes on for a while.
struct Lasting<T> {
    until: Duration,
    machine: usize,
    telling: Telling,
    what: T,
}

/// What really happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Tally {
    pub(crate) faults: BTreeMap<Kind, u64>,
    /// Members that ended although nothing was done to them, and why.
    pub(crate) fatals: Vec<String>,
}

impl Nemesis {
    pub(crate) fn new(world: &Arc<World>) -> Self {
        let mut to_come = world.plan.faults.clone().into_iter();
        Self {
            random: SmallRng::seed_from_u64(world.plan.seed ^ 0x6e65_6d65_7369_7300),
            next: to_come.next(),
            to_come,
            present: (0..world.plan.voters).collect(),
            outsiders: world.outsiders(),
            returns: BTreeMap::new(),
            down: BTreeMap::new(),
            sick: BTreeMap::new(),
            crashed: BTreeMap::new(),
            agents_return: None,
            effects: Vec::new(),
            rates: Vec::new(),
            waiting: Vec::new(),
            told: 0,
            tally: Tally::default(),
            world: Arc::clone(world),
        }
    }

    /// Does what is due.
    pub(crate) fn act(&mut self, sim: &mut Sim<'_>) -> std::io::Result<()> {
        let now = sim.elapsed();
        self.restore(sim, now)?;
        self.end_effects(sim, now)?;
        self.bury(sim, now)?;
        self.strike_at_election(sim, now)?;
        while let Some(planned) = self.next.take_if(|planned| now >= Duration::from_millis(planned.at_ms)) {
            self.next = self.to_come.next();
            self.strike(sim, &planned, now)?;
        }
        Ok(())
    }

    /// Ends all faults; returns the machines that must serve.
    pub(crate) fn heal(&mut self, sim: &mut Sim<'_>) -> std::io::Result<Vec<usize>> {
        let now = sim.elapsed();
        self.bury(sim, now)?;
        for number in self.present.clone() {
            // No disk fails any more.
            if matches!(*lock(&self.machine(number).health), Health::Sick { .. }) {
                self.crash(sim, number, now, Loss::OfPower)?;
            }
        }
        self.end_effects(sim, Duration::MAX)?;
        self.restore(sim, Duration::MAX)?;
        Ok(self.present.clone())
    }

    /// Takes away what is left of members that ended after everything was healed: none should.
    pub(crate) fn watch_healed(&mut self, sim: &mut Sim<'_>) -> std::io::Result<()> {
        let now = sim.elapsed();
        self.restore(sim, now)?;
        self.bury(sim, now)
    }

    fn hosts(&self) -> Hosts<'_> {
        Hosts { present: &self.present, outsiders: &self.outsiders }
    }

    fn machine(&self, number: usize) -> Arc<Machine> {
        Arc::clone(self.world.machines.get(number).expect("numbers of machines come from the world"))
    }

    /// Returns who leads, as the one with the highest term says of itself.
    fn leader(&self) -> Option<usize> {
        let leads = |number: &usize| {
            let status = self.machine(*number).member()?.status();
            (status.leader_id == status.member_id).then_some((status.term, *number))
        };
        self.present.iter().filter_map(leads).max().map(|(_, number)| number)
    }

    /// Returns the highest term that a member shows.
    fn highest_term(&self) -> u64 {
        let terms =
            self.present.iter().filter_map(|number| Some(self.machine(*number).member()?.status().term));
        terms.max().unwrap_or(0)
    }

    /// Cuts the power where somebody leads in a term that is higher than when the cut was planned.
    fn strike_at_election(&mut self, sim: &mut Sim<'_>, now: Duration) -> std::io::Result<()> {
        let leader = self.leader().and_then(|number| self.machine(number).member());
        let Some(led) = leader.map(|member| member.status().term) else { return Ok(()) };
        let is_due = |(term, _): &(u64, Duration)| led > *term;
        let (due, left) = std::mem::take(&mut self.waiting).into_iter().partition(is_due);
        self.waiting = left;
        let due: Vec<(u64, Duration)> = due;
        match due.first() {
            Some((_, down)) => self.crash_all(sim, now, *down, Loss::OfPower),
            None => Ok(()),
        }
    }

    fn victim(&self, victim: Victim) -> usize {
        let nth = |nth: usize| self.present.iter().cycle().nth(nth % self.present.len().max(1)).copied();
        let drawn = match victim {
            Victim::Leader => self.leader().or_else(|| nth(0)),
            Victim::Nth(number) => nth(number),
        };
        drawn.unwrap_or(0)
    }

    fn strike(&mut self, sim: &mut Sim<'_>, planned: &Planned, now: Duration) -> std::io::Result<()> {
        let lasting = Duration::from_millis(planned.lasts_ms);
        let (kind, until) = (planned.fault.kind(), now + lasting);
        match planned.fault.clone() {
            Fault::Kill(victim) => self.crash_for(sim, self.victim(victim), now, lasting, Loss::OfProcess)?,
            Fault::PowerLoss(victim) => {
                self.crash_for(sim, self.victim(victim), now, lasting, Loss::OfPower)?
            }
            Fault::PowerLossEverywhere => self.crash_all(sim, now, lasting, Loss::OfPower)?,
            Fault::PowerLossAtElection => self.waiting.push((self.highest_term(), lasting)),
            Fault::RestartEverybody => self.crash_all(sim, now, lasting, Loss::OfProcess)?,
            Fault::TornWrite { victim, operations, everywhere } => {
                self.sicken(planned, victim, everywhere, |machine| machine.disk.cut_power_in(operations));
            }
            Fault::FailedSync { victim, syncs } => {
                self.sicken(planned, victim, false, |machine| machine.disk.fail_sync_in(syncs));
            }
            Fault::FullDisk(victim) => self.sicken(planned, victim, false, |machine| {
                machine.disk.limit_capacity(Some(machine.disk.used_bytes()));
            }),
            Fault::Partition { shape, victim } => {
                let victim = self.victim(victim);
                let cuts = links::cuts(shape, victim, self.hosts());
                self.begin(sim, (kind, victim), until, Effect::Cut(cuts))?;
            }
            Fault::Hold(victim) => {
                let victim = self.victim(victim);
                let links = links::links_of(victim, self.hosts());
                self.begin(sim, (kind, victim), until, Effect::Hold(links))?;
            }
            Fault::Delay { victim, max_ms } => {
                let victim = self.victim(victim);
                let links = links::links_of(victim, self.hosts());
                self.begin(sim, (kind, victim), until, Effect::Delay { links, max_ms })?;
            }
            Fault::Loss { victim, one_of } => {
                let victim = self.victim(victim);
                let links = links::links_of(victim, self.hosts());
                self.begin(sim, (kind, victim), until, Effect::Loss { links, one_of })?;
            }
            Fault::ClockRate { victim, permille } => {
                let machine = self.victim(victim);
                let telling = self.tell(FaultKind::Clock, machine, json!({ "permille": permille }))?;
                self.rates.push(Lasting { until, machine, telling, what: permille });
                self.set_clocks();
                self.count(kind);
            }
            Fault::MoveLeader => self.move_leader()?,
            Fault::Replace { victim, in_one } => self.replace(sim, victim, in_one)?,
            Fault::KillAgent => self.kill_agents(sim, until)?,
        }
        Ok(())
    }

    fn count(&mut self, kind: Kind) {
        *self.tally.faults.entry(kind).or_default() += 1;
    }

    /// Tells the history that a fault has begun, with its witness.
    fn tell(&mut self, kind: FaultKind, machine: usize, witness: Value) -> std::io::Result<Telling> {
        let (member, hit_leader) = (self.machine(machine).name.clone(), self.leader() == Some(machine));
        self.tell_of((member, hit_leader), kind, witness)
    }

    fn tell_of(
        &mut self,
        (member, hit_leader): (String, bool),
        kind: FaultKind,
        witness: Value,
    ) -> std::io::Result<Telling> {
        let telling = Telling { number: self.told, kind, member, hit_leader };
        self.told += 1;
        self.record(&telling, Phase::Begin, Value::Null)?;
        self.record(&telling, Phase::Witness, witness)?;
        Ok(telling)
    }

    fn record(&self, telling: &Telling, phase: Phase, witness: Value) -> std::io::Result<()> {
        let told = Told {
            fault: telling.number,
            phase,
            members: vec![telling.member.clone()],
            leader: self.leader().map(|leader| self.machine(leader).name.clone()),
            hit_leader: telling.hit_leader,
            plan: Value::Null,
            witness,
            ended: Vec::new(),
        };
        let note = Note {
            kind: if phase == Phase::Begin { EventKind::Invoke } else { EventKind::Info },
            process: Process::NEMESIS,
            f: Function::Fault(telling.kind),
            key: None,
            value: serde_json::to_value(told)?,
            node: Some(telling.member.clone()),
            rev: None,
            error: None,
        };
        self.world.history.record(note).map(|_| ())
    }

    fn begin(
        &mut self,
        sim: &mut Sim<'_>,
        (kind, machine): (Kind, usize),
        until: Duration,
        effect: Effect,
    ) -> std::io::Result<()> {
        let told = match kind {
            Kind::Loss => FaultKind::Loss,
            Kind::Hold | Kind::Delay => FaultKind::Delay,
            _ => FaultKind::Partition,
        };
        let telling = self.tell(told, machine, json!(format!("{effect:?}")))?;
        self.effects.push(Lasting { until, machine, telling, what: effect });
        self.count(kind);
        self.apply(sim);
        Ok(())
    }

    fn apply(&self, sim: &mut Sim<'_>) {
        let effects: Vec<Effect> = self.effects.iter().map(|effect| effect.what.clone()).collect();
        links::apply(sim, &self.world.plan, &self.outsiders, &effects);
    }

    fn end_effects(&mut self, sim: &mut Sim<'_>, now: Duration) -> std::io::Result<()> {
        let (ended, left) =
            std::mem::take(&mut self.effects).into_iter().partition(|effect| effect.until <= now);
        self.effects = left;
        if self.end(ended)? {
            self.apply(sim);
        }
        let (ended, left) = std::mem::take(&mut self.rates).into_iter().partition(|rate| rate.until <= now);
        self.rates = left;
        if self.end(ended)? {
            self.set_clocks();
        }
        Ok(())
    }

    /// Tells that faults are over; returns whether there were any.
    fn end<T>(&self, ended: Vec<Lasting<T>>) -> std::io::Result<bool> {
        for lasting in &ended {
            self.record(&lasting.telling, Phase::End, Value::Null)?;
        }
        Ok(!ended.is_empty())
    }

    /// The simulator's time is that of the slowest clock: all others run faster than it.
    fn set_clocks(&self) {
        let slowest = self.rates.iter().map(|rate| rate.what).min().unwrap_or(1000).clamp(1, 1000);
        let outsiders = [&self.world.clients, &self.world.agents];
        for machine in self.world.machines.iter().chain(outsiders) {
            let own = self.rates.iter().filter(|rate| rate.machine == machine.number);
            let rate = own.map(|rate| rate.what).next_back().unwrap_or(1000);
            machine.clock_permille.store(rate * 1000 / slowest, Ordering::Relaxed);
        }
    }

    fn move_leader(&mut self) -> std::io::Result<()> {
        let Some(leader) = self.leader() else { return Ok(()) };
        let to = self.present.iter().cycle().skip_while(|number| **number != leader).nth(1).copied();
        if let Some(id) = to.and_then(|to| self.id(to)) {
            lock(&self.machine(leader).orders).push_back(Order::MoveLeader(id));
            self.count(Kind::MoveLeader);
            let telling = self.tell(FaultKind::Transfer, leader, json!({ "to": format!("{id:x}") }))?;
            self.record(&telling, Phase::End, Value::Null)?;
        }
        Ok(())
    }

    fn id(&self, number: usize) -> Option<u64> {
        if number != self.world.newcomer() {
            return Some(first_id(number));
        }
        match *lock(&self.world.replacement) {
            Replacement::Added { id, .. } | Replacement::Done { id } => Some(id),
            Replacement::NobodyDied | Replacement::Dead { .. } | Replacement::Removed { .. } => None,
        }
    }

    fn replace(&mut self, sim: &mut Sim<'_>, victim: Victim, in_one: bool) -> std::io::Result<()> {
        let newcomer = self.world.newcomer();
        if self.present.contains(&newcomer) {
            return Ok(());
        }
        let dead = self.victim(victim);
        let telling = self.tell(FaultKind::Replace, dead, json!({ "in_one": in_one }))?;
        if let Some(crashed) = self.crashed.remove(&dead) {
            self.record(&crashed, Phase::End, Value::Null)?;
        }
        if self.returns.remove(&dead).is_none() {
            sim.crash(self.machine(dead).name.as_str());
        }
        for number in &mut self.present {
            if *number == dead {
                *number = newcomer;
            }
        }
        *lock(&self.world.replacement) = Replacement::Dead { dead, in_one };
        self.count(Kind::Replace);
        self.record(&telling, Phase::End, Value::Null)
    }

    /// Makes the disk of a member that is up fail after a few more operations.
    fn sicken(
        &mut self,
        planned: &Planned,
        victim: Victim,
        everywhere: bool,
        break_disk: impl FnOnce(&Machine),
    ) {
        let number = self.victim(victim);
        let machine = self.machine(number);
        let mut health = lock(&machine.health);
        if *health == Health::Well && !self.returns.contains_key(&number) {
            *health = Health::Sick { everywhere };
            self.down.insert(number, Duration::from_millis(planned.lasts_ms));
            self.sick.insert(number, planned.fault.kind());
            break_disk(&machine);
        }
    }

    /// Takes away what is left of members that have ended.
    fn bury(&mut self, sim: &mut Sim<'_>, now: Duration) -> std::io::Result<()> {
        for number in self.present.clone() {
            let health = lock(&self.machine(number).health).clone();
            let down = self.down.get(&number).copied().unwrap_or(Duration::from_secs(1));
            match health {
                Health::Well | Health::Sick { .. } => continue,
                Health::Ended { everywhere } => {
                    let kind = self.sick.remove(&number).unwrap_or(Kind::PowerLoss);
                    self.count(kind);
                    if everywhere {
                        self.crash_all(sim, now, down, Loss::OfPower)?;
                    }
                }
                Health::Fatal(why) => {
                    self.tally.fatals.push(format!("{}: {why}", self.machine(number).name));
                }
            }
            self.down.insert(number, down);
            self.crash(sim, number, now, Loss::OfPower)?;
        }
        Ok(())
    }

    fn crash_all(
        &mut self,
        sim: &mut Sim<'_>,
        now: Duration,
        down: Duration,
        loss: Loss,
    ) -> std::io::Result<()> {
        for number in self.present.clone() {
            // Not all come back at once.
            let factor = self.random.random_range(1..=4);
            self.crash_for(sim, number, now, down * factor / 4, loss)?;
        }
        Ok(())
    }

    fn crash_for(
        &mut self,
        sim: &mut Sim<'_>,
        number: usize,
        now: Duration,
        down: Duration,
        loss: Loss,
    ) -> std::io::Result<()> {
        self.down.insert(number, down);
        self.crash(sim, number, now, loss)
    }

    fn crash(&mut self, sim: &mut Sim<'_>, number: usize, now: Duration, loss: Loss) -> std::io::Result<()> {
        if self.returns.contains_key(&number) {
            return Ok(());
        }
        let machine = self.machine(number);
        let unflushed = machine.engines.unflushed_batches();
        let (told, kind) = match loss {
            Loss::OfProcess => (FaultKind::Kill, Kind::Kill),
            Loss::OfPower => (FaultKind::PowerLoss, Kind::PowerLoss),
        };
        let witness = json!({ "disk_operations": machine.disk.operations(), "batches_unflushed": unflushed });
        let telling = self.tell(told, number, witness)?;
        self.crashed.insert(number, telling);
        sim.crash(machine.name.as_str());
        match loss {
            Loss::OfProcess => machine.disk.restart_process(),
            Loss::OfPower => machine.disk.crash(),
        }
        machine.disk.limit_capacity(None);
        machine.engines.crash_behind(self.random.random_range(0..=unflushed));
        *lock(&machine.health) = Health::Well;
        lock(&machine.orders).clear();
        let down = self.down.remove(&number).unwrap_or_default();
        self.returns.insert(number, now + down);
        self.count(kind);
        Ok(())
    }

    /// Ends the process of all agents, unless it has ended already.
    fn kill_agents(&mut self, sim: &mut Sim<'_>, until: Duration) -> std::io::Result<()> {
        if self.agents_return.is_some() || self.world.control_plane.is_none() {
            return Ok(());
        }
        let witness = json!({ "processes": self.world.agents.starts.load(Ordering::Relaxed) });
        let telling = self.tell_of((AGENTS.to_owned(), false), FaultKind::KillAgent, witness)?;
        sim.crash(AGENTS);
        self.agents_return = Some((until, telling));
        self.count(Kind::KillAgent);
        Ok(())
    }

    fn restore(&mut self, sim: &mut Sim<'_>, now: Duration) -> std::io::Result<()> {
        if let Some((_, telling)) = self.agents_return.take_if(|(at, _)| *at <= now) {
            sim.bounce(AGENTS);
            self.record(&telling, Phase::End, Value::Null)?;
        }
        let back: BTreeSet<usize> =
            self.returns.iter().filter(|(_, at)| **at <= now).map(|(number, _)| *number).collect();
        for number in back {
            self.returns.remove(&number);
            let machine = self.machine(number);
            sim.bounce(machine.name.as_str());
            if let Some(telling) = self.crashed.remove(&number) {
                self.record(&telling, Phase::End, Value::Null)?;
            }
        }
        Ok(())
    }
}

/// What goes with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    OfProcess,
    OfPower,
}
