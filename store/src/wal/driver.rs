//! Runs the log's core: an operating-system thread in production, a task in the simulator.
//!
//! Requests that arrive while a sync runs form the next batch, so batches grow with load and no timer is needed.

use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::core::{self, Flushed, Wal, WalConfig, WalError};
use super::disk::Disk;
use super::record::Record;

/// Requests waiting for the log; the senders are raft's own bounded queues, so this only smooths their hand-over.
const QUEUE_REQUESTS_MAX: usize = 4096;
/// Requests taken into one flush.
const FLUSH_REQUESTS_MAX: usize = 4096;

/// Called once the records of a request are as durable as they ask for. Dropped uncalled when the log failed.
pub type Done = Box<dyn FnOnce() + Send>;
/// Told about every flush, before the requests in it are answered.
pub type OnFlushed = Box<dyn FnMut(&Flushed) + Send>;
/// Ends the member. Called at most once; the log takes no more requests afterwards.
pub type Fatal = Arc<dyn Fn(&WalError) + Send + Sync>;

/// Records to write together.
pub struct Request {
    pub records: Vec<Record>,
    pub done: Option<Done>,
}

/// The log has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log has ended")]
pub struct WalEnded;

/// Sends records to the log.
#[derive(Clone)]
pub struct WalSender {
    requests: mpsc::Sender<Request>,
}

impl WalSender {
    /// Queues records; `done` is called when they are durable. Order of calls is order in the log.
    ///
    /// # Errors
    /// When the log has ended.
    pub async fn submit(&self, request: Request) -> Result<(), WalEnded> {
        self.requests.send(request).await.map_err(|_| WalEnded)
    }

    /// Returns what tells how many requests wait.
    #[must_use]
    pub fn queue(&self) -> WalQueue {
        WalQueue { requests: self.requests.downgrade() }
    }
}

/// Tells how many requests wait for the log, without keeping it from ending.
#[derive(Clone)]
pub struct WalQueue {
    requests: mpsc::WeakSender<Request>,
}

impl WalQueue {
    /// Returns how many requests wait; none when the log has ended.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.requests.upgrade().map_or(0, |requests| requests.max_capacity() - requests.capacity())
    }
}

/// What a driver needs beside the core.
pub struct Driver {
    pub wal: Wal,
    pub on_flushed: OnFlushed,
    pub fatal: Fatal,
}

impl Driver {
    /// Runs the log on its own thread until every sender is gone, then closes it.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn spawn_thread(
        self,
        disk: Arc<dyn Disk>,
        config: WalConfig,
    ) -> std::io::Result<(WalSender, std::thread::JoinHandle<()>)> {
        let (requests, receiver) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let prepare = spawn_preparer(disk, config)?;
        let handle = std::thread::Builder::new().name("wal".to_owned()).spawn(move || {
            let _guard = AbortOnPanic("wal");
            self.run_thread(receiver, &prepare);
        })?;
        Ok((WalSender { requests }, handle))
    }

    /// Returns the log as a future for the simulator; `sync_time` is how long each flush takes.
    pub fn into_task(
        self,
        mut sync_time: impl FnMut() -> Duration + Send,
    ) -> (WalSender, impl Future<Output = ()> + Send) {
        let (requests, mut receiver) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let mut driver = self;
        let task = async move {
            while let Some(first) = receiver.recv().await {
                let batch = drain(first, &mut receiver);
                tokio::time::sleep(sync_time()).await;
                if !driver.step(batch) {
                    return;
                }
            }
            driver.close();
        };
        (WalSender { requests }, task)
    }

    fn run_thread(mut self, mut receiver: mpsc::Receiver<Request>, prepare: &std_mpsc::SyncSender<()>) {
        let mut prepared_for = None;
        while let Some(first) = receiver.blocking_recv() {
            let batch = drain(first, &mut receiver);
            if !self.step(batch) {
                return;
            }
            // A segment is used up only when another one begins.
            if prepared_for.replace(self.wal.sequence()) != Some(self.wal.sequence()) {
                // A full queue means that the preparer is at work already.
                let _ = prepare.try_send(());
            }
        }
        self.close();
    }

    /// Writes one batch of requests. Returns whether the log goes on.
    fn step(&mut self, requests: Vec<Request>) -> bool {
        let mut waiting = Vec::with_capacity(requests.len());
        for request in requests {
            request.records.into_iter().for_each(|record| self.wal.submit(record));
            waiting.extend(request.done);
        }
        match self.wal.flush() {
            Ok(flushed) => {
                (self.on_flushed)(&flushed);
                waiting.into_iter().for_each(|done| done());
                true
            }
            Err(error) => {
                (self.fatal)(&error);
                false
            }
        }
    }

    fn close(&mut self) {
        if let Err(error) = self.wal.close() {
            (self.fatal)(&error);
        }
    }
}

fn drain(first: Request, receiver: &mut mpsc::Receiver<Request>) -> Vec<Request> {
    let mut batch = vec![first];
    while batch.len() < FLUSH_REQUESTS_MAX {
        match receiver.try_recv() {
            Ok(request) => batch.push(request),
            Err(_) => break,
        }
    }
    batch
}

/// Fills segments ahead, so that the log's thread never waits for it. Ends with its sender.
fn spawn_preparer(disk: Arc<dyn Disk>, config: WalConfig) -> std::io::Result<std_mpsc::SyncSender<()>> {
    let (sender, receiver) = std_mpsc::sync_channel(1);
    std::thread::Builder::new().name("wal-prepare".to_owned()).spawn(move || {
        while receiver.recv().is_ok() {
            if let Err(error) = core::prepare_spare(&*disk, &config) {
                tracing::warn!(%error, "cannot prepare a log segment");
            }
        }
    })?;
    Ok(sender)
}

/// Aborts the process when its thread panics: a member without a log must not go on answering.
pub(crate) struct AbortOnPanic(pub(crate) &'static str);

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(thread = self.0, "panic in a thread that the member cannot live without");
            std::process::abort();
        }
    }
}
