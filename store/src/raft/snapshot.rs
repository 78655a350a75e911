//! Whole states on their way between members.
//!
//! Building one copies nothing: it flushes the engine and records up to where its state is durable. Rows are read only
//! when a member needs them, as they are then, so a snapshot is at least as new as its name says.
//! A received one is written to an engine of its own; it becomes the current one, durably, as the very last step.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use openraft::RaftSnapshotBuilder;
use tokio::sync::{mpsc, oneshot};

use super::state_machine::{Machine, SnapshotOf, machine_failed};
use super::types::{SnapshotMeta, TypeConfig};
use crate::engine::EngineError;
use crate::env::engines::Staged;
use crate::mvcc::snapshot;

/// Chunks between the thread that reads rows and the connection that sends them.
const CHUNKS_AHEAD_MAX: usize = 4;

/// The content of a snapshot.
pub(crate) enum SnapshotData {
    /// The state of this member, read when it is sent.
    Local(Arc<Machine>),
    /// Complete and flushed, waiting to become current.
    Staged(Staged),
}

impl fmt::Debug for SnapshotData {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Local(_) => "local state",
            Self::Staged(_) => "staged engine",
        })
    }
}

/// Rows of one state, with the log position and membership that belong to exactly these rows.
pub(crate) struct Export {
    pub(crate) meta: SnapshotMeta,
    pub(crate) chunks: mpsc::Receiver<Result<Bytes, EngineError>>,
}

/// Starts to read the state of this member; apply goes on as soon as the first row is read.
///
/// # Errors
/// When the engine fails before the first row.
pub(crate) async fn export(machine: &Arc<Machine>) -> std::io::Result<Export> {
    if machine.env().is_simulated() {
        return export_at_once(machine).map_err(std::io::Error::other);
    }
    let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD_MAX);
    let (pinned, meta) = oneshot::channel();
    let machine = Arc::clone(machine);
    tokio::task::spawn_blocking(move || export_blocking(&machine, pinned, &sender));
    let meta = meta.await.map_err(|_| std::io::Error::other("snapshot export ended before its first row"))?;
    Ok(Export { meta, chunks })
}

/// The scan shows the engine as it is when it begins; the lock is held until then so that the meta belongs to it.
fn export_blocking(
    machine: &Arc<Machine>,
    pinned: oneshot::Sender<SnapshotMeta>,
    sender: &mpsc::Sender<Result<Bytes, EngineError>>,
) {
    let store = machine.store();
    let engine = Arc::clone(store.engine());
    let mut start = Some((store, pinned, machine.snapshot_meta()));
    let outcome = snapshot::export(&*engine, &mut |chunk| {
        if let Some((store, pinned, meta)) = start.take() {
            drop(store);
            if pinned.send(meta).is_err() {
                return ControlFlow::Break(());
            }
        }
        match sender.blocking_send(Ok(chunk)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    if let Err(error) = outcome {
        // The receiver may be gone; the transfer has ended then.
        let _ = sender.blocking_send(Err(error));
    }
}

/// The simulator has no threads, so it takes all rows at once.
fn export_at_once(machine: &Arc<Machine>) -> Result<Export, EngineError> {
    let store = machine.store();
    let meta = machine.snapshot_meta();
    let mut all = Vec::new();
    let _ended = snapshot::export(&**store.engine(), &mut |chunk| {
        all.push(chunk);
        ControlFlow::Continue(())
    })?;
    let (sender, chunks) = mpsc::channel(all.len().max(1));
    for chunk in all {
        // The channel holds them all.
        let _ = sender.try_send(Ok(chunk));
    }
    Ok(Export { meta, chunks })
}

/// Makes the state durable up to where it was applied when this was made.
pub(crate) struct SnapshotBuilder {
    pub(crate) machine: Arc<Machine>,
    pub(crate) meta: SnapshotMeta,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf, std::io::Error> {
        let machine = Arc::clone(&self.machine);
        let flushed = self.machine.env().blocking(move || machine.flush()).await;
        flushed.map_err(|error| machine_failed(&self.machine, &error))?;
        self.machine.set_durable(&self.meta);
        Ok(SnapshotOf { meta: self.meta.clone(), snapshot: SnapshotData::Local(Arc::clone(&self.machine)) })
    }
}
