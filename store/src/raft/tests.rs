//! openraft's own suite on our log and state machine.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

use super::log_store::{LogStore, Shared};
use super::state_machine::{AppliedEntry, Found, Machine, Observer, StateMachine};
use super::types::TypeConfig;
use crate::env::engines::SimEngines;
use crate::env::{Env, EnvParts, Place};
use crate::mvcc::Store;
use crate::net::TcpNet;
use crate::wal::disk_sim::SimDisk;
use crate::wal::driver::Driver;
use crate::wal::{Wal, WalConfig};

struct Nobody;

impl Observer for Nobody {
    fn applied(&self, _entry: AppliedEntry) {}

    fn replaced(&self, _store: &Store) {}
}

struct Builder {
    /// 0 keeps no entry in memory, so that every read comes back from disk.
    cache_bytes_max: usize,
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine> for Builder {
    async fn build(&self) -> Result<((), LogStore, StateMachine), StorageError<TypeConfig>> {
        let disk = SimDisk::new(1);
        let env = Env::new(EnvParts {
            place: Place::Machine,
            disk: Arc::new(disk),
            engines: Arc::new(SimEngines::default()),
            net: Arc::new(TcpNet::default()),
            fatal: Arc::new(|message| panic!("{message}")),
            seed: 1,
        });
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
        let machine =
            Arc::new(Machine::open(&env, Arc::new(Nobody), Found::read(&*env.engines).unwrap()).unwrap());
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
