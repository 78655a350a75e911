//! One machine with a disk that fails, and the lives of a member on it. Time is virtual; nothing is shared with other tests.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use store::config::Timing;
use store::env::engines::SimEngines;
use store::env::{Env, EnvParts, Fatal, Place, error_chain};
use store::net::{Connection, Listener, Net};
use store::wal::WalConfig;
use store::wal::disk_sim::SimDisk;
use store::{AutoCompaction, Member, MemberConfig};
use tokio_util::sync::CancellationToken;

/// Small, so that a short script fills several segments and asks for several snapshots.
const WAL: WalConfig = WalConfig {
    segment_bytes: 32 * 1024,
    batch_bytes_max: 8 * 1024,
    spares_max: 1,
    cache_bytes_max: 8 * 1024,
};
const SNAPSHOT_ENTRIES: u64 = 12;
const ENTRIES_KEPT: u64 = 3;

/// What outlives a member.
pub struct Machine {
    pub disk: SimDisk,
    pub engines: SimEngines,
    pub auto_compaction: AutoCompaction,
    index_cut: Cell<Option<u64>>,
    lives: Cell<u64>,
}

/// Why a member ended before its work was done.
#[derive(Debug)]
pub enum End {
    /// It could not start.
    Refused(String),
    /// It started and met a fault.
    Died(String),
}

impl End {
    pub fn reason(&self) -> &str {
        match self {
            Self::Refused(reason) | Self::Died(reason) => reason,
        }
    }
}

impl Machine {
    pub fn new(seed: u64) -> Self {
        Self {
            disk: SimDisk::new(seed),
            engines: SimEngines::default(),
            auto_compaction: AutoCompaction::Off,
            index_cut: Cell::new(None),
            lives: Cell::new(0),
        }
    }

    /// Returns another machine on which everything stands as on this one.
    pub fn fork(&self) -> Self {
        let Self { disk, engines, auto_compaction, index_cut: _, lives } = self;
        Self {
            disk: disk.fork(),
            engines: engines.fork(),
            auto_compaction: *auto_compaction,
            index_cut: Cell::new(None),
            lives: lives.clone(),
        }
    }

    /// Starts a member, lets it work, and ends it as a killed process ends.
    pub fn live<T>(&self, work: impl AsyncFnOnce(&Member) -> T) -> Result<T, End> {
        self.lives.set(self.lives.get() + 1);
        let died = Arc::new(Mutex::new(None));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let env = self.env(&died);
        let lived = catch_unwind(AssertUnwindSafe(|| {
            runtime.unwrap().block_on(async {
                let started = Member::start_in(env, self.config(), CancellationToken::new()).await;
                let member = started.map_err(|error| End::Refused(error_chain(&error)))?;
                tokio::select! {
                    biased;
                    () = death(&died) => Err(End::Died(String::new())),
                    done = work(&member) => Ok(done),
                }
            })
        }));
        let reason = died.lock().unwrap().take();
        match (lived, reason) {
            (Ok(Err(End::Refused(reason))), _) => Err(End::Refused(reason)),
            (_, Some(reason)) => Err(End::Died(reason)),
            (Ok(lived), None) => lived,
            (Err(panic), None) => resume_unwind(panic),
        }
    }

    /// Has the next member die at that point of saving its index.
    pub fn cut_power_at_index_point(&self, point: u64) {
        self.index_cut.set(Some(point));
    }

    fn env(&self, died: &Arc<Mutex<Option<String>>>) -> Env {
        let died = Arc::clone(died);
        let fatal: Fatal = Arc::new(move |message| {
            *died.lock().unwrap() = Some(message.to_owned());
            // Without the noise of a panic: this is how the process ends.
            resume_unwind(Box::new("the member ended"));
        });
        if let Some(cut) = self.index_cut.take() {
            let fatal = Arc::clone(&fatal);
            self.engines.at_index_points(Arc::new(move |point| {
                if point == cut {
                    fatal("the power went");
                }
                Ok(())
            }));
        }
        Env::new(EnvParts {
            place: Place::Simulation,
            disk: Arc::new(self.disk.clone()),
            engines: Arc::new(self.engines.clone()),
            net: Arc::new(Nobody),
            fatal,
            seed: self.lives.get(),
        })
    }

    fn config(&self) -> MemberConfig {
        let url = "http://m0:2380".to_owned();
        MemberConfig {
            cluster_id: 0xc1,
            member_id: 1,
            incarnation: 1111,
            name: "m0".to_owned(),
            listen_peer: "0.0.0.0:2380".to_owned(),
            client_urls: Vec::new(),
            initial: BTreeMap::from([(1, ("m0".to_owned(), vec![url]))]),
            contacts: Vec::new(),
            timing: Timing::default(),
            wal: WAL,
            snapshot_entries: SNAPSHOT_ENTRIES,
            entries_kept: Some(ENTRIES_KEPT),
            quota_bytes: 0,
            // Here a disk is used to its end: what is refused before that has tests of its own.
            disk_reserve_bytes: Some(0),
            compare_interval: store::config::COMPARE_INTERVAL,
            auto_compaction: self.auto_compaction,
            token_ttl: store::auth::TOKEN_TTL,
            slow_after: store::config::SLOW_AFTER,
            limits: store::kv::RequestLimits::default(),
            watches: store::watch::Limits::default(),
            levels: store::level::Levels::SUPPORTED,
        }
    }

    /// Cuts the power; the database has flushed some of its batches by itself.
    pub fn lose_power(&self, luck: u64) {
        self.disk.crash();
        let batches = u64::try_from(self.engines.unflushed_batches()).unwrap();
        self.engines.crash_behind(usize::try_from(luck % (batches + 1)).unwrap());
    }
}

/// Returns once the member has died.
async fn death(died: &Mutex<Option<String>>) {
    while died.lock().unwrap().is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

/// A network that nobody else is on.
struct Nobody;

struct Silence;

impl Listener for Silence {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<BoxFuture<'static, io::Result<Connection>>>> {
        Box::pin(std::future::pending())
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([0, 0, 0, 0], 2380)))
    }
}

impl Net for Nobody {
    fn listen(&self, _address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Ok(Box::new(Silence) as Box<dyn Listener>) })
    }

    fn connect(&self, _address: &str) -> BoxFuture<'static, io::Result<Connection>> {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }
}
