//! openraft's own suite on our log and state machine, and feature levels on the way through them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use openraft::storage::RaftStateMachine;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{RaftSnapshotBuilder, StorageError};
use prost::Message;
use tokio_util::sync::CancellationToken;

use super::convert;
use super::log_store::{LogStore, Shared};
use super::network::Identity;
use super::node::{Node, NodeConfig, StartError};
use super::state_machine::{AppliedEntry, Found, Machine, Observer, StateMachine};
use super::types::{Entry, LogId, Member, Membership, Payload, Proposal, SnapshotMeta, TypeConfig};
use crate::config::{SLOW_AFTER, Timing};
use crate::engine::{Engine, EngineError, MemoryEngine};
use crate::env::engines::SimEngines;
use crate::env::{Engines, Env, EnvParts, Fatal, Place};
use crate::level::{Level, Levels, RaiseLevel, UnsupportedLevel};
use crate::member::Leases;
use crate::mvcc::{Command, Store};
use crate::net::TcpNet;
use crate::wal::disk_sim::SimDisk;
use crate::wal::driver::Driver;
use crate::wal::{self, Record, Wal, WalConfig};
use crate::wire::encode_command;

pub(super) struct Nobody;

impl Observer for Nobody {
    fn applied(&self, _entry: AppliedEntry) {}

    fn replaced(&self, _store: &Store) {}
}

pub(super) fn env(place: Place, disk: SimDisk, engines: SimEngines, fatal: Fatal) -> Env {
    Env::new(EnvParts {
        place,
        disk: Arc::new(disk),
        engines: Arc::new(engines),
        net: Arc::new(TcpNet::default()),
        fatal,
        seed: 1,
    })
}

/// Starts the member of a cluster that nobody else belongs to.
pub(super) async fn start(env: Env, stop: CancellationToken) -> Result<Arc<Node>, StartError> {
    let config = NodeConfig {
        identity: Identity { cluster_id: 1, member_id: 1, incarnation: 1 },
        name: "m".to_owned(),
        client_urls: Vec::new(),
        joins: false,
        timing: Timing::default(),
        wal: WalConfig { segment_bytes: 64 * 1024, ..WalConfig::default() },
        snapshot_entries: 100,
        entries_kept: None,
        slow_after: SLOW_AFTER,
        levels: Levels::SUPPORTED,
    };
    let leases = Arc::new(Leases::new(&env, config.timing));
    Node::start(env, config, Box::new(Nobody), leases, stop).await
}

fn machine(env: &Env) -> Arc<Machine> {
    let found = Found::read(&*env.engines, Levels::SUPPORTED).unwrap();
    Arc::new(Machine::open(env, Arc::new(Nobody), found).unwrap())
}

struct Builder {
    /// 0 keeps no entry in memory, so that every read comes back from disk.
    cache_bytes_max: usize,
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine> for Builder {
    async fn build(&self) -> Result<((), LogStore, StateMachine), StorageError<TypeConfig>> {
        let fatal: Fatal = Arc::new(|message| panic!("{message}"));
        let env = env(Place::Machine, SimDisk::new(1), SimEngines::default(), fatal);
        let config = WalConfig {
            segment_bytes: 64 * 1024,
            cache_bytes_max: self.cache_bytes_max,
            ..WalConfig::default()
        };
        let (wal, recovered) = Wal::open(Arc::clone(&env.disk), config).unwrap();
        let shared = Arc::new(Shared::new(Arc::clone(&env.disk), recovered, config.cache_bytes_max).unwrap());
        let told = Arc::clone(&shared);
        let driver = Driver {
            wal,
            on_flushed: Box::new(move |flushed| told.on_flushed(flushed)),
            fatal: Arc::new(|error| panic!("{error}")),
        };
        let (sender, _thread) = driver.spawn_thread(Arc::clone(&env.disk), config).unwrap();
        let machine = machine(&env);
        Ok(((), LogStore::new(shared, sender), StateMachine { machine }))
    }
}

fn check_suite(cache_bytes_max: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let suite = Suite::test_all(Builder { cache_bytes_max });
    let scoped =
        openraft_rt::deterministic_rng::DeterministicRng::<openraft_rt_tokio::TokioRuntime>::scope(1, suite);
    runtime.block_on(scoped).unwrap();
}

#[test]
fn openraft_suite_passes() {
    check_suite(1 << 20);
}

#[test]
fn openraft_suite_passes_with_every_entry_read_back_from_disk() {
    check_suite(0);
}

/// A member that applies what it is given, and the lines with which it ended.
struct Applying {
    engines: SimEngines,
    machine: StateMachine,
    ended: Arc<Mutex<Vec<String>>>,
    last: u64,
}

impl Applying {
    /// Two members belong to its cluster.
    async fn start() -> Self {
        let (engines, ended) = (SimEngines::default(), Arc::<Mutex<Vec<String>>>::default());
        let told = Arc::clone(&ended);
        let fatal: Fatal = Arc::new(move |line| told.lock().unwrap().push(line.to_owned()));
        let env = env(Place::Machine, SimDisk::new(1), engines.clone(), fatal);
        let mut applying = Self { engines, machine: StateMachine { machine: machine(&env) }, ended, last: 0 };
        let members = BTreeMap::from([(1, Member::default()), (2, Member::default())]);
        let membership = Membership::new(vec![BTreeSet::from([1])], members).unwrap();
        applying.apply(Payload::Membership(membership)).await.unwrap();
        applying
    }

    async fn apply(&mut self, payload: Payload) -> io::Result<()> {
        self.last += 1;
        let entry = Entry { log_id: LogId::new_term_index(1, self.last), payload };
        self.machine.apply(futures::stream::iter([Ok((entry, None))])).await
    }

    async fn raise(&mut self, level: Level, members: &[u64]) -> io::Result<()> {
        let command = encode_command(&Command::RaiseLevel(RaiseLevel { level, members: members.to_vec() }));
        self.apply(Payload::Normal(Proposal { origin: 1, request_id: 1, command })).await
    }

    fn level(&self) -> Level {
        self.machine.machine.store().level()
    }

    fn ended(&self) -> Vec<String> {
        self.ended.lock().unwrap().clone()
    }
}

/// Returns an engine with a state of a level.
fn of_level(engine: Arc<dyn Engine>, level: Level) -> Arc<dyn Engine> {
    let mut store = Store::open(Arc::clone(&engine)).unwrap();
    let _applied = store.apply(&Command::RaiseLevel(RaiseLevel { level, members: Vec::new() })).unwrap();
    store.commit().unwrap();
    engine
}

fn above() -> Level {
    Level(Level::HIGHEST.0 + 1)
}

/// A learner, or who was added while the others were asked, has a word as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_level_is_raised_only_in_the_name_of_every_member() {
    let mut applying = Applying::start().await;
    for members in [&[][..], &[1], &[2, 9]] {
        applying.raise(Level::HIGHEST, members).await.unwrap();
        assert_eq!(applying.level(), Level::FIRST, "{members:?}");
    }
    applying.raise(Level::HIGHEST, &[9, 2, 1]).await.unwrap();
    assert_eq!(applying.level(), Level::HIGHEST);
    applying.raise(Level::FIRST, &[1, 2]).await.unwrap();
    assert_eq!((applying.level(), applying.ended()), (Level::HIGHEST, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_in_the_log_that_is_not_supported_ends_the_member_and_is_not_stored() {
    let mut applying = Applying::start().await;
    applying.raise(above(), &[1, 2]).await.unwrap_err();
    let [line] = applying.ended().try_into().unwrap();
    let expected = format!("the cluster has feature level {} and this version supports up to", above());
    assert!(line.contains(&expected) && !line.contains('\n'), "{line}");
    let reopened = Store::open(applying.engines.inspect().unwrap().unwrap()).unwrap();
    assert_eq!(reopened.level(), Level::FIRST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_a_level_that_is_not_supported_is_neither_opened_nor_taken_over() {
    let applying = Applying::start().await;
    let staged = applying.engines.stage().unwrap();
    of_level(Arc::clone(staged.engine()), above());
    let refused = applying.machine.machine.adopt(staged, &SnapshotMeta::default()).unwrap_err();
    assert!(matches!(refused, EngineError::Level(UnsupportedLevel::TooHigh { .. })), "{refused}");
    assert_eq!(applying.level(), Level::FIRST);

    let engines = SimEngines::default();
    of_level(engines.open().unwrap(), Level::HIGHEST);
    assert!(Found::read(&engines, Levels::SUPPORTED).is_ok());
    let held = Found::read(&engines, Levels::up_to(Level::FIRST)).map(|_| ()).unwrap_err();
    assert!(matches!(held, EngineError::Level(UnsupportedLevel::Held { .. })), "{held}");
}

/// The log is purged up to the snapshot that was built last. If the one that is sent were older, who takes it over would lack the entries
/// between the two, and be sent the same one again, for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_made_durable_while_entries_were_applied_is_what_is_sent() {
    let mut applying = Applying::start().await;
    let machine = Arc::clone(&applying.machine.machine);
    let applies = tokio::spawn(async move {
        for _ in 0..20_000 {
            applying.apply(Payload::Blank).await.unwrap();
        }
    });
    let mut sender = StateMachine { machine: Arc::clone(&machine) };
    let mut last = Some(LogId::new_term_index(1, 1));
    machine.set_durable(&SnapshotMeta { last_log_id: last, ..SnapshotMeta::default() });
    while !applies.is_finished() {
        let sent = sender.get_current_snapshot().await.unwrap().unwrap().meta.last_log_id;
        assert_eq!(sent, last);
        last = last.map(|last| LogId::new_term_index(1, last.index + 1));
        machine.set_durable(&SnapshotMeta { last_log_id: last, ..SnapshotMeta::default() });
    }
    applies.await.unwrap();
}

/// A state was taken over from another member while one was flushed.
#[tokio::test]
async fn what_is_known_to_be_durable_never_goes_back() {
    let applying = Applying::start().await;
    let mut machine = applying.machine;
    let later = SnapshotMeta { last_log_id: Some(LogId::new_term_index(1, 9)), ..SnapshotMeta::default() };
    machine.machine.set_durable(&later);
    machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    assert_eq!(machine.get_current_snapshot().await.unwrap().unwrap().meta, later);
}

/// It took over a state of term 2 in the place of entries that the leader of term 1 wrote and nobody committed. The state was durable and
/// their removal was not.
#[tokio::test]
async fn a_member_whose_power_went_while_it_took_over_a_state_starts_without_what_the_state_overrules() {
    let (disk, engines) = (SimDisk::new(1), SimEngines::default());
    let env = env(Place::Simulation, disk.clone(), engines, Arc::new(|message| panic!("{message}")));
    let (mut wal, _) = Wal::open(Arc::clone(&env.disk), WalConfig::default()).unwrap();
    wal.submit(Record::Vote(wal::Vote { term: 2, voted_for: 2, committed: true }));
    for index in 0..9 {
        let overruled = Entry { log_id: LogId::new_term_index(1, index), payload: Payload::Blank };
        let bytes = convert::entry_to_wire(&overruled).encode_to_vec().into();
        wal.submit(Record::Entry(wal::Entry { id: convert::position(overruled.log_id), bytes }));
    }
    wal.flush().unwrap();
    drop(wal);
    let taken_over = Entry { log_id: LogId::new_term_index(2, 5), payload: Payload::Blank };
    let mut machine = StateMachine { machine: machine(&env) };
    machine.apply(futures::stream::iter([Ok((taken_over, None))])).await.unwrap();
    machine.machine.flush().unwrap();
    drop(machine);
    let stop = CancellationToken::new();
    let node = start(env, stop.clone()).await.unwrap();
    node.stop(&stop).await;
    let (_, recovered) = Wal::open(Arc::new(disk), WalConfig::default()).unwrap();
    let taken_over = Some(wal::LogPosition { term: 2, index: 5 });
    assert_eq!((recovered.state.last, recovered.entries.len()), (taken_over, 0));
}

/// What a version without levels reads is the same as before until the level is raised, and refused from then on.
#[test]
fn the_first_level_leaves_no_trace() {
    let engine = MemoryEngine::new();
    let first = Store::open(Arc::new(engine.clone())).unwrap().digest();
    of_level(Arc::new(engine.clone()), Level::FIRST);
    let mut is_empty = true;
    engine
        .scan(b"", None, &mut |_, _| {
            is_empty = false;
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert!(is_empty);
    of_level(Arc::new(engine.clone()), Level(2));
    let second = Store::open(Arc::new(engine.clone())).unwrap();
    assert_eq!(second.level(), Level(2));
    of_level(Arc::new(engine.clone()), Level(3));
    let third = Store::open(Arc::new(engine)).unwrap().digest();
    assert!(first != second.digest() && second.digest() != third, "members at other levels differ");
}
