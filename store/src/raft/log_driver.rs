//! Starts what writes the log: a thread, or a task in the simulator.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::log_store::{LogStore, Shared};
use crate::env::{Env, error_chain};
use crate::wal::driver::{Driver, WalQueue};
use crate::wal::{Wal, WalConfig};

/// A log that takes records.
pub(super) struct StartedLog {
    pub(super) store: LogStore,
    pub(super) queue: WalQueue,
    /// To be waited for at the end; the simulator has none.
    pub(super) thread: Option<JoinHandle<()>>,
}

/// # Errors
/// When no thread can be started.
pub(super) fn start_log(
    env: &Env,
    wal: Wal,
    shared: Arc<Shared>,
    config: WalConfig,
    tasks: &TaskTracker,
) -> io::Result<StartedLog> {
    let told = Arc::clone(&shared);
    let fatal_env = env.clone();
    let driver = Driver {
        wal,
        on_flushed: Box::new(move |flushed| told.on_flushed(flushed)),
        fatal: Arc::new(move |error| fatal_env.fatal(&error_chain(error))),
    };
    let (sender, thread) = if env.is_simulated() {
        let random = env.clone();
        // A sync of the simulated disk takes 50 to 1049 µs.
        let sync_time = move || Duration::from_micros(50 + random.random_u64() % 1000);
        let (sender, task) = driver.into_task(sync_time);
        tasks.spawn(task);
        (sender, None)
    } else {
        let (sender, thread) = driver.spawn_thread(Arc::clone(&env.disk), config)?;
        (sender, Some(thread))
    };
    Ok(StartedLog { queue: sender.queue(), store: LogStore::new(shared, sender), thread })
}
