//! Three members with their clients, and what is done to them: crashes, disks that fail in the middle of their work, partitions, and one
//! member that dies for good and is replaced, in one change or in two.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use store::admin::{Admin, AdminError};
use store::config::Timing;
use store::env::engines::SimEngines;
use store::env::{Env, EnvParts, Place};
use store::kv::{Consistency, Kv, KvError};
use store::mvcc::{KeyRange, Op, Put, Range, Revision, Txn};
use store::wal::WalConfig;
use store::wal::disk_sim::SimDisk;
use store::{Member, MemberConfig};
use tokio_util::sync::CancellationToken;

use super::checker::Final;
use super::history::{Action, End, History, Shared};
use super::network::SimNet;

/// The last one is not there at first.
const NAMES: [&str; 4] = ["m0", "m1", "m2", "m3"];
/// Members at a time.
const MEMBERS: usize = 3;
const NEWCOMER: usize = 3;
/// When one of the first members dies for good.
const DEATH: Duration = Duration::from_secs(10);
const CLIENTS_PER_MEMBER: u64 = 3;
const KEYS: u8 = 5;
/// How long faults go on, in simulated time.
const FAULT_TIME: Duration = Duration::from_secs(25);
/// How soon everything must work again after the last fault: restarts, an election, a snapshot.
const HEAL_TIME: Duration = Duration::from_secs(20);
/// Pause of a client between operations.
const THINK_TIME_MS: u64 = 30;

/// What a run left behind.
pub struct Outcome {
    pub history: History,
    pub finals: Vec<Final>,
    pub trace: u64,
    pub faults: Faults,
}

/// Faults that really happened.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub struct Faults {
    pub crashes: u32,
    /// Members that ended because the power went during an operation of the disk, a sync failed or the disk was full.
    pub disk_faults: u32,
    /// Members that ended although nothing was done to their disk.
    pub fatals: u32,
    pub partitions: u32,
    /// Whether a member took the place of one that died for good.
    pub replaced: bool,
}

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let replaced = if self.replaced { "a replaced member" } else { "nobody replaced" };
        let Self { crashes, disk_faults, fatals, partitions, .. } = self;
        write!(
            formatter,
            "{crashes} crashes, {disk_faults} disk faults, {partitions} partitions, {replaced}"
        )?;
        if *fatals > 0 { write!(formatter, ", {fatals} ended without reason") } else { Ok(()) }
    }
}

/// What outlives a member's process.
#[derive(Clone)]
struct Machine {
    number: usize,
    seed: u64,
    disk: SimDisk,
    engines: SimEngines,
    starts: Arc<Mutex<u64>>,
    health: Arc<Mutex<Health>>,
    history: Shared,
    finals: Arc<Mutex<Vec<Final>>>,
    phase: Arc<Mutex<Phase>>,
    /// Members whose clients have all ended.
    quiet: Arc<Mutex<BTreeSet<usize>>>,
    replacement: Arc<Mutex<Replacement>>,
    /// Whether the dead member leaves and the new one comes in one change.
    replaces_in_one: bool,
}

/// What becomes of a machine whose disk is about to fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Health {
    #[default]
    Well,
    /// Its disk will fail. With `everybody`, the power of all machines goes at that moment.
    Sick { everybody: bool },
    /// It failed and the process has ended.
    Ended { everybody: bool },
    /// The process has ended for no reason that was given to it.
    Fatal,
}

impl Health {
    fn has_ended(self) -> bool {
        matches!(self, Self::Ended { .. } | Self::Fatal)
    }

    fn end(&mut self) {
        *self = match *self {
            Self::Sick { everybody } => Self::Ended { everybody },
            Self::Ended { everybody } => Self::Ended { everybody },
            Self::Well | Self::Fatal => Self::Fatal,
        };
    }
}

/// How far the replacement of the dead member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replacement {
    NobodyDied,
    /// This member is dead and has to go.
    Dead(usize),
    Removed(usize),
    /// The new member has this id.
    Added {
        dead: usize,
        id: u64,
    },
    /// It votes and the dead one is out.
    Done {
        id: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Faults,
    /// Clients stop; members report what they hold.
    Finish,
}

/// Runs the cluster under faults from `seed`.
pub fn run(seed: u64) -> Outcome {
    let history = Shared::default();
    let finals = Arc::new(Mutex::new(Vec::new()));
    let phase = Arc::new(Mutex::new(Phase::Faults));
    let quiet = Arc::new(Mutex::new(BTreeSet::new()));
    let replacement = Arc::new(Mutex::new(Replacement::NobodyDied));
    let machines: Vec<Machine> = (0..NAMES.len())
        .map(|number| Machine {
            number,
            seed: seed.wrapping_mul(1000) + u64::try_from(number).unwrap(),
            disk: SimDisk::new(seed.wrapping_mul(77) + u64::try_from(number).unwrap()),
            engines: SimEngines::default(),
            starts: Arc::default(),
            health: Arc::default(),
            history: Arc::clone(&history),
            finals: Arc::clone(&finals),
            phase: Arc::clone(&phase),
            quiet: Arc::clone(&quiet),
            replacement: Arc::clone(&replacement),
            replaces_in_one: seed % 2 == 1,
        })
        .collect();
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .enable_random_order()
        .simulation_duration(Duration::from_secs(600))
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_micros(200))
        .max_message_latency(Duration::from_millis(5))
        .tcp_capacity(4096)
        .build();
    for machine in &machines {
        let machine = machine.clone();
        sim.host(NAMES[machine.number], move || run_member(machine.clone()));
    }
    let mut faults = Nemesis::new(seed).run(&mut sim, &machines);
    *phase.lock().unwrap() = Phase::Finish;
    let deadline = sim.elapsed() + HEAL_TIME;
    while finals.lock().unwrap().len() < MEMBERS && sim.elapsed() < deadline {
        sim.step().expect("a simulated host has failed");
    }
    drop(sim);
    faults.replaced = matches!(*replacement.lock().unwrap(), Replacement::Done { .. });
    let history = history.lock().unwrap().clone();
    let mut finals = finals.lock().unwrap().clone();
    finals.sort_by(|left, right| left.member.cmp(&right.member));
    let mut hasher = DefaultHasher::new();
    history.operations.hash(&mut hasher);
    finals.hash(&mut hasher);
    faults.hash(&mut hasher);
    for machine in &machines {
        machine.disk.operations().hash(&mut hasher);
    }
    Outcome { history, finals, trace: hasher.finish(), faults }
}

async fn run_member(machine: Machine) -> turmoil::Result {
    let start = {
        let mut starts = machine.starts.lock().unwrap();
        *starts += 1;
        *starts
    };
    let stop = CancellationToken::new();
    let health = Arc::clone(&machine.health);
    let env = Env::new(EnvParts {
        place: Place::Simulation,
        disk: Arc::new(machine.disk.clone()),
        engines: Arc::new(machine.engines.clone()),
        net: Arc::new(SimNet),
        // What goes on until the nemesis takes it away, a tick later, is heard by nobody.
        fatal: Arc::new(move |_| health.lock().unwrap().end()),
        seed: machine.seed.wrapping_mul(10_007) + start,
    });
    let member = match Member::start_in(env, member_config(&machine).await, stop).await {
        Ok(member) => member,
        Err(_) => {
            // The disk failed while it was read.
            machine.health.lock().unwrap().end();
            std::future::pending().await
        }
    };
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS_PER_MEMBER {
        let id = u64::try_from(machine.number).unwrap() * 100 + client;
        let rng = SmallRng::seed_from_u64(machine.seed.wrapping_mul(31) + start * 1009 + id);
        clients.spawn(run_client(id, rng, Arc::clone(&member), machine.clone()));
    }
    clients.spawn(replace_the_dead(Arc::clone(&member), machine.clone()));
    while clients.join_next().await.is_some() {}
    machine.quiet.lock().unwrap().insert(machine.number);
    while machine.quiet.lock().unwrap().len() < MEMBERS {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let last = report(NAMES[machine.number], &member).await;
    machine.finals.lock().unwrap().push(last);
    // Goes on serving, for the others' reports.
    std::future::pending::<()>().await;
    Ok(())
}

fn peer_url(number: usize) -> String {
    format!("http://{}:2380", NAMES[number])
}

/// Id of one of the first members.
fn first_id(number: usize) -> u64 {
    u64::try_from(number).unwrap() + 1
}

/// The newcomer has none until it is added.
async fn member_config(machine: &Machine) -> MemberConfig {
    let number = machine.number;
    let first =
        (0..MEMBERS).map(|number| (first_id(number), (NAMES[number].to_owned(), vec![peer_url(number)])));
    let is_newcomer = number == NEWCOMER;
    let initial: BTreeMap<u64, (String, Vec<String>)> =
        if is_newcomer { BTreeMap::new() } else { first.collect() };
    let member_id = loop {
        match *machine.replacement.lock().unwrap() {
            Replacement::Added { id, .. } | Replacement::Done { id } if is_newcomer => break id,
            _ if !is_newcomer => break first_id(number),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    MemberConfig {
        cluster_id: 0xc1,
        member_id,
        incarnation: first_id(number) * 1111,
        name: NAMES[number].to_owned(),
        listen_peer: "0.0.0.0:2380".to_owned(),
        client_urls: Vec::new(),
        initial,
        contacts: if is_newcomer { (0..MEMBERS).map(peer_url).collect() } else { Vec::new() },
        timing: Timing::default(),
        wal: WalConfig {
            segment_bytes: 256 * 1024,
            batch_bytes_max: 64 * 1024,
            spares_max: 1,
            cache_bytes_max: 64 * 1024,
        },
        // Small enough that members that were away get snapshots.
        snapshot_entries: 200,
        entries_kept: Some(50),
        quota_bytes: 0,
        disk_reserve_bytes: None,
        compare_interval: Duration::from_secs(2),
        auto_compaction: store::AutoCompaction::Off,
        token_ttl: store::auth::TOKEN_TTL,
        slow_after: store::config::SLOW_AFTER,
    }
}

/// What an administrator does, on every member: replaces the dead one, or removes it and adds another. Each step is repeated until it is
/// seen to be done, whatever became of earlier attempts.
async fn replace_the_dead(member: Arc<Member>, machine: Machine) {
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let step = *machine.replacement.lock().unwrap();
        let next = match step {
            Replacement::NobodyDied => None,
            Replacement::Done { .. } => return,
            Replacement::Dead(dead) if machine.replaces_in_one => {
                // Its outcome is seen in the list.
                let _ = member.replace_member(first_id(dead), vec![peer_url(NEWCOMER)]).await;
                newcomer(&member).await.map(|id| Replacement::Added { dead, id })
            }
            Replacement::Dead(dead) => match member.remove_member(first_id(dead)).await {
                Ok(_) | Err(AdminError::MemberNotFound) => Some(Replacement::Removed(dead)),
                Err(_) => None,
            },
            Replacement::Removed(dead) => {
                let _ = member.add_member(vec![peer_url(NEWCOMER)], false).await;
                newcomer(&member).await.map(|id| Replacement::Added { dead, id })
            }
            Replacement::Added { dead, id } => {
                let members = member.members(true).await.unwrap_or_default();
                let has_vote = members.iter().any(|member| member.id == id && !member.is_learner);
                let is_out = members.iter().all(|member| member.id != first_id(dead));
                (has_vote && is_out).then_some(Replacement::Done { id })
            }
        };
        let mut replacement = machine.replacement.lock().unwrap();
        if let Some(next) = next
            && *replacement == step
        {
            *replacement = next;
        }
    }
}

async fn newcomer(member: &Member) -> Option<u64> {
    let members = member.members(true).await.unwrap_or_default();
    members.iter().find(|member| member.peer_urls == [peer_url(NEWCOMER)]).map(|member| member.id)
}

async fn run_client(id: u64, mut rng: SmallRng, member: Arc<Member>, machine: Machine) {
    loop {
        let pause = Duration::from_millis(rng.random_range(0..THINK_TIME_MS));
        tokio::time::sleep(pause).await;
        if *machine.phase.lock().unwrap() == Phase::Finish {
            return;
        }
        let key = rng.random_range(0..KEYS);
        let action = if rng.random_bool(0.5) {
            Action::Put { key, value: rng.random_range(1..u64::MAX) }
        } else {
            Action::Get { key }
        };
        let operation = machine.history.lock().unwrap().invoke(id, action.clone());
        let end = execute(&member, &action).await;
        if machine.health.lock().unwrap().has_ended() {
            return std::future::pending().await;
        }
        machine.history.lock().unwrap().complete(operation, end);
    }
}

async fn execute(member: &Member, action: &Action) -> End {
    match action {
        Action::Put { key, value } => {
            let put = Put {
                key: Bytes::copy_from_slice(&[*key]),
                value: Bytes::copy_from_slice(&value.to_be_bytes()),
                ..Put::default()
            };
            let txn = Txn { success: vec![Op::Put(put)], ..Txn::default() };
            match member.txn(txn).await {
                Ok(result) => End::Put { revision: result.revision.0 },
                Err(KvError::OutcomeUnknown) => End::Unknown,
                Err(_) => End::Failed,
            }
        }
        Action::Get { key } => {
            let range = Range::new(KeyRange::single(vec![*key]));
            match member.range(range, Consistency::Linearizable).await {
                Ok(result) => {
                    let (modified, value) =
                        result.kvs.first().map_or((0, 0), |kv| (kv.mod_revision.0, value_of(&kv.value)));
                    End::Get { revision: result.revision.0, modified, value }
                }
                Err(_) => End::Failed,
            }
        }
    }
}

fn value_of(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("clients write eight bytes"))
}

/// Reads everything that a member ever held, once it is up to date.
async fn report(name: &str, member: &Member) -> Final {
    // The newcomer is there when it votes.
    while member.is_learner() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let revision = loop {
        match member.read_index().await {
            Ok(revision) => break revision,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let mut writes = BTreeMap::new();
    for at in 2..=revision.0 {
        let mut range = Range::new(KeyRange::prefix(Bytes::new()));
        range.range = KeyRange { start: Bytes::from_static(&[0]), end: store::mvcc::RangeEnd::Unbounded };
        range.revision = Some(Revision(at));
        range.min_mod_revision = at;
        let result = member.range(range, Consistency::Serializable).await.expect("history is not compacted");
        for kv in result.kvs {
            writes.insert(kv.mod_revision.0, (kv.key[0], value_of(&kv.value)));
        }
    }
    Final { member: name.to_owned(), revision: revision.0, writes }
}

/// Crashes and partitions, from the seed.
struct Nemesis {
    rng: SmallRng,
    faults: Faults,
    /// When a crashed member comes back.
    returns: BTreeMap<usize, Duration>,
    heals: Option<Duration>,
    next: Duration,
    /// Members that are there.
    present: Vec<usize>,
}

impl Nemesis {
    fn new(seed: u64) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(seed ^ 0x6e65_6d65_7369_7300),
            faults: Faults::default(),
            returns: BTreeMap::new(),
            heals: None,
            // The cluster forms in peace.
            next: Duration::from_secs(3),
            present: (0..MEMBERS).collect(),
        }
    }

    fn run(mut self, sim: &mut turmoil::Sim<'_>, machines: &[Machine]) -> Faults {
        while sim.elapsed() < FAULT_TIME {
            sim.step().expect("a simulated host has failed");
            let now = sim.elapsed();
            self.restore(sim, now);
            self.bury(sim, machines, now);
            if now >= DEATH && !self.present.contains(&NEWCOMER) {
                self.kill_for_good(sim, machines);
            }
            if now >= self.next {
                self.strike(sim, machines, now);
                self.next = now + Duration::from_millis(self.rng.random_range(300..2500));
            }
        }
        self.bury(sim, machines, sim.elapsed());
        // No disk fails any more.
        for number in self.present.clone() {
            if matches!(*machines[number].health.lock().unwrap(), Health::Sick { .. }) {
                self.crash(sim, &machines[number], sim.elapsed());
            }
        }
        self.restore(sim, Duration::MAX);
        self.faults
    }

    fn restore(&mut self, sim: &mut turmoil::Sim<'_>, now: Duration) {
        let back: Vec<usize> =
            self.returns.iter().filter(|(_, at)| **at <= now).map(|(number, _)| *number).collect();
        for number in back {
            self.returns.remove(&number);
            sim.bounce(NAMES[number]);
        }
        if self.heals.is_some_and(|at| at <= now) {
            self.heals = None;
            for (number, left) in NAMES.iter().enumerate() {
                for right in NAMES.iter().skip(number + 1) {
                    sim.repair(*left, *right);
                }
            }
        }
    }

    /// One of the first members never comes back; the newcomer takes its place.
    fn kill_for_good(&mut self, sim: &mut turmoil::Sim<'_>, machines: &[Machine]) {
        let place = self.rng.random_range(0..MEMBERS);
        let dead = self.present[place];
        if self.returns.remove(&dead).is_none() {
            sim.crash(NAMES[dead]);
        }
        self.present[place] = NEWCOMER;
        *machines[dead].replacement.lock().unwrap() = Replacement::Dead(dead);
    }

    fn strike(&mut self, sim: &mut turmoil::Sim<'_>, machines: &[Machine], now: Duration) {
        match self.rng.random_range(0..10) {
            0..2 => {
                let number = self.present[self.rng.random_range(0..MEMBERS)];
                self.crash(sim, &machines[number], now);
            }
            2 => self.crash_all(sim, machines, now),
            3..6 => {
                let number = self.present[self.rng.random_range(0..MEMBERS)];
                self.sicken(&machines[number]);
            }
            6..9 => {
                let lonely = self.present[self.rng.random_range(0..MEMBERS)];
                for other in self.present.iter().filter(|other| **other != lonely) {
                    sim.partition(NAMES[lonely], NAMES[*other]);
                }
                self.partitioned(now);
            }
            _ => {
                let (left, right) = [(0, 1), (0, 2), (1, 2)][self.rng.random_range(0..3)];
                sim.partition_oneway(NAMES[self.present[left]], NAMES[self.present[right]]);
                self.partitioned(now);
            }
        }
    }

    /// Makes the disk of a member that is up fail after a few more operations.
    fn sicken(&mut self, machine: &Machine) {
        let mut health = machine.health.lock().unwrap();
        if *health != Health::Well || self.returns.contains_key(&machine.number) {
            return;
        }
        *health = Health::Sick { everybody: self.rng.random_bool(0.3) };
        match self.rng.random_range(0..4) {
            0 => machine.disk.fail_sync_in(self.rng.random_range(1..20)),
            1 => machine.disk.limit_capacity(Some(machine.disk.used_bytes())),
            _ => machine.disk.cut_power_in(self.rng.random_range(1..40)),
        }
    }

    /// Takes away what is left of members that have ended.
    fn bury(&mut self, sim: &mut turmoil::Sim<'_>, machines: &[Machine], now: Duration) {
        for number in self.present.clone() {
            let machine = &machines[number];
            let health = *machine.health.lock().unwrap();
            match health {
                Health::Well | Health::Sick { .. } => continue,
                Health::Ended { everybody } => {
                    self.faults.disk_faults += 1;
                    if everybody {
                        self.crash_all(sim, machines, now);
                    }
                }
                Health::Fatal => self.faults.fatals += 1,
            }
            self.crash(sim, machine, now);
        }
    }

    fn crash_all(&mut self, sim: &mut turmoil::Sim<'_>, machines: &[Machine], now: Duration) {
        for number in self.present.clone() {
            self.crash(sim, &machines[number], now);
        }
    }

    fn partitioned(&mut self, now: Duration) {
        self.faults.partitions += 1;
        self.heals = Some(now + Duration::from_millis(self.rng.random_range(200..4000)));
    }

    fn crash(&mut self, sim: &mut turmoil::Sim<'_>, machine: &Machine, now: Duration) {
        if self.returns.contains_key(&machine.number) {
            return;
        }
        sim.crash(NAMES[machine.number]);
        machine.disk.crash();
        machine.disk.limit_capacity(None);
        machine.engines.crash_behind(self.rng.random_range(0..=machine.engines.unflushed_batches()));
        *machine.health.lock().unwrap() = Health::Well;
        self.faults.crashes += 1;
        self.returns.insert(machine.number, now + Duration::from_millis(self.rng.random_range(10..5000)));
    }
}
