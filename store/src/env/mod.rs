//! Everything that a member takes from outside: disk, engines, network, randomness, time and the way it ends.
//!
//! Production and simulation differ here and nowhere else. Time is tokio's, which the simulator controls; no other
//! clock and no other randomness is read in this crate, but for the salt of passwords, which are hashed at the etcd edge: that is
//! no part of a simulation, and for counting how long things take, which decides nothing.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::RuntimeFlavor;
use tokio::time::Instant;

use crate::directory::StoredDivergence;
use crate::engine::{Engine, EngineError};
use crate::metrics::Counters;
use crate::net::Net;
use crate::wal::Disk;

pub mod engines;
pub(crate) mod spare_room;

use self::engines::Staged;

/// Writes a saved index.
pub type WriteIndex<'a> = dyn FnMut(&mut dyn Write) -> io::Result<()> + 'a;

/// The engines of one data directory: the current one, and those that snapshots are written to.
pub trait Engines: Send + Sync + 'static {
    /// Returns where the engines are, for messages.
    fn directory(&self) -> String;

    /// Returns the current engine for reading, `None` when there is none yet. Nothing is changed.
    ///
    /// # Errors
    /// When the engine fails or is damaged.
    fn inspect(&self) -> Result<Option<Arc<dyn Engine>>, EngineError>;

    /// Opens the current engine; where there is none yet, an empty one is made.
    ///
    /// # Errors
    /// When the engine fails.
    fn open(&self) -> Result<Arc<dyn Engine>, EngineError>;

    /// Returns a new empty engine beside the current one and beside others that were staged.
    ///
    /// # Errors
    /// When the engine fails.
    fn stage(&self) -> Result<Staged, EngineError>;

    /// Returns where files may stand for a while; `None` where there are no files.
    fn scratch(&self) -> Option<PathBuf>;

    /// Leaves word for the next start that the state here must not be served; durable on return. Where nothing outlives a process there
    /// is nothing to do.
    ///
    /// # Errors
    /// When the disk fails.
    fn abandon(&self, divergence: &StoredDivergence) -> io::Result<()> {
        let _nothing_to_keep = divergence;
        Ok(())
    }

    /// Writes a file beside the current engine, durable but of no effect before [`Engines::publish_index`]. Returns the engine's
    /// number.
    ///
    /// # Errors
    /// When the disk fails, or `write` does.
    fn write_index(&self, write: &mut WriteIndex<'_>) -> io::Result<u64>;

    /// Makes the file that was written last the saved index of that engine; durable on return.
    ///
    /// # Errors
    /// When the disk fails; an earlier index stays then.
    fn publish_index(&self, engine: u64) -> io::Result<()>;

    /// Returns the saved index of the current engine, if there is one.
    ///
    /// # Errors
    /// When the disk fails.
    fn saved_index(&self) -> io::Result<Option<Box<dyn Read>>>;

    /// Makes a staged engine the current one; durable on return.
    ///
    /// # Errors
    /// When the disk fails; the next start finds the old engine or this one then.
    fn promote(&self, staged: Staged) -> Result<(), EngineError>;
}

/// Where a member runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Threads, real files, real sockets.
    Machine,
    /// One thread and virtual time.
    Simulation,
}

/// Ends the member with a message; must not return control to a member that could go on answering. Called at most once.
pub type Fatal = Arc<dyn Fn(&str) + Send + Sync>;

/// The outside of one member.
#[derive(Clone)]
pub struct Env {
    pub place: Place,
    pub disk: Arc<dyn Disk>,
    pub engines: Arc<dyn Engines>,
    pub net: Arc<dyn Net>,
    fatal: Fatal,
    /// Whether the member is ending for a fault.
    failed: Arc<AtomicBool>,
    rng: Arc<Mutex<SmallRng>>,
    counters: Counters,
}

/// Parts of an [`Env`].
pub struct EnvParts {
    pub place: Place,
    pub disk: Arc<dyn Disk>,
    pub engines: Arc<dyn Engines>,
    pub net: Arc<dyn Net>,
    pub fatal: Fatal,
    /// Where all randomness of the member comes from.
    pub seed: u64,
}

impl Env {
    /// Puts an environment together.
    #[must_use]
    pub fn new(parts: EnvParts) -> Self {
        let EnvParts { place, disk, engines, net, fatal, seed } = parts;
        let rng = Arc::new(Mutex::new(SmallRng::seed_from_u64(seed)));
        let counters = Counters::default();
        Self { place, disk, engines, net, fatal, failed: Arc::default(), rng, counters }
    }

    /// Counts with what other parts count with as well.
    #[must_use]
    pub(crate) fn with_counters(self, counters: Counters) -> Self {
        Self { counters, ..self }
    }

    /// Returns what the member counts while it works.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns a random number.
    #[must_use]
    pub fn random_u64(&self) -> u64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    /// Returns a number that nobody can guess who has seen others: those of [`Env::random_u64`] follow from one another.
    pub(crate) fn unguessable(&self) -> u128 {
        if self.is_simulated() {
            return u128::from(self.random_u64()) << 64 | u128::from(self.random_u64());
        }
        uuid::Uuid::new_v4().as_u128()
    }

    /// Returns the monotonic time.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    pub(crate) fn is_simulated(&self) -> bool {
        self.place == Place::Simulation
    }

    /// Runs work that waits for the disk where it holds up nobody.
    pub(crate) async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        if self.is_simulated() {
            return work();
        }
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => {
                // Cancelled only when the runtime ends, and whoever waits here with it.
                if error.is_panic() {
                    self.fatal(&format!("blocking work did not finish: {error}"));
                }
                std::future::pending().await
            }
        }
    }

    /// Runs work that keeps its thread busy, such as applying, while other tasks of the runtime go on elsewhere.
    pub(crate) fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        let handle = tokio::runtime::Handle::try_current();
        match handle.map(|handle| handle.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
            // The simulator has one thread, and whoever calls from outside has its own.
            Ok(_) | Err(_) => work(),
        }
    }

    /// Ends the member. Only the first fault is reported: while the member ends, what needed the failed part fails as well, and
    /// a full disk refuses more than one file.
    pub(crate) fn fatal(&self, message: &str) {
        if self.failed.swap(true, Ordering::AcqRel) {
            tracing::debug!(message, "another fault while the member ends");
        } else {
            (self.fatal)(message);
        }
    }
}

/// Returns an error with all its causes in one line.
#[must_use]
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::engines::SimEngines;
    use super::*;
    use crate::net::TcpNet;
    use crate::wal::disk_sim::SimDisk;

    fn env(told: &Arc<Mutex<Vec<String>>>) -> Env {
        let told = Arc::clone(told);
        Env::new(EnvParts {
            place: Place::Machine,
            disk: Arc::new(SimDisk::new(1)),
            engines: Arc::new(SimEngines::default()),
            net: Arc::new(TcpNet::default()),
            fatal: Arc::new(move |message| told.lock().unwrap().push(message.to_owned())),
            seed: 1,
        })
    }

    #[test]
    fn only_the_first_fault_of_a_member_is_reported() {
        let told = Arc::default();
        let first = env(&told);
        // The log's thread and the applying task each hold the environment.
        let second = first.clone();
        first.fatal("the database is full");
        second.fatal("the log is full");
        assert_eq!(*told.lock().unwrap(), ["the database is full"]);
        env(&told).fatal("another member's");
        assert_eq!(told.lock().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_panic_in_blocking_work_is_a_fault() {
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let env = env(&told);
        let work = tokio::spawn(async move { env.blocking(|| panic!("broken")).await });
        while told.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(told.lock().unwrap()[0].contains("broken"));
        assert!(!work.is_finished(), "there is no result to go on with");
        work.abort();
    }
}
