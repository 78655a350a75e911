//! The index on disk: written beside the flushed state, read at the next start.
//!
//! ```text
//! keys, a piece at a time ─► unfinished file, synced ─► engine flushed ─► file published
//! ```
//!
//! In this order the rows that a piece has seen are on disk by the time that the file counts. Applying waits for one piece at most.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::state_machine::Machine;
use crate::engine::{Engine, EngineError};
use crate::env::{Env, error_chain};
use crate::mvcc::{KEYS_MAX, Store, Writer};

/// How saving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Saving {
    Done,
    /// Rows are being removed, or everything was replaced meanwhile.
    Interrupted,
    Failed,
}

/// Opens a store for a start, and says whether there was a saved index that fits.
pub(super) fn open(env: &Env, engine: Arc<dyn Engine>) -> Result<(Store, bool), EngineError> {
    let found = match env.engines.saved_index() {
        Ok(None) => return Ok((Store::open(engine)?, false)),
        Ok(Some(mut saved)) => {
            Store::open_saved(Arc::clone(&engine), &mut *saved)?.map_err(|error| error_chain(&error))
        }
        Err(error) => Err(error_chain(&error)),
    };
    match found {
        Ok(store) => Ok((store, true)),
        Err(reason) => {
            tracing::warn!(reason, "the saved index is not used; all rows are read");
            Ok((Store::open(engine)?, false))
        }
    }
}

/// Flushes the engine, with the index saved beside it. An index that cannot be saved costs the next start time and nothing else.
///
/// # Errors
/// When the engine fails.
pub(super) fn flush(machine: &Machine) -> Result<Saving, EngineError> {
    let engine = Arc::clone(machine.store().engine());
    let engines = &machine.env().engines;
    let written = engines.write_index(&mut |out| write(machine, &engine, out));
    engine.flush()?;
    Ok(match written.and_then(|number| engines.publish_index(number)) {
        Ok(()) => Saving::Done,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            tracing::debug!("rows are being removed; the index is saved another time");
            Saving::Interrupted
        }
        Err(error) => {
            tracing::warn!(error = error_chain(&error), "cannot save the index");
            Saving::Failed
        }
    })
}

fn write(machine: &Machine, engine: &Arc<dyn Engine>, out: &mut dyn Write) -> io::Result<()> {
    let interrupted = || io::Error::from(io::ErrorKind::Interrupted);
    let mark = machine.store().index_mark().ok_or_else(interrupted)?;
    let mut writer = Writer::begin(out, mark)?;
    let mut from = Some(Bytes::new());
    while let Some(start) = from {
        let mut piece = BytesMut::new();
        from = {
            let store = machine.store();
            // A snapshot may have replaced everything.
            if !Arc::ptr_eq(store.engine(), engine) {
                return Err(interrupted());
            }
            store.save_keys(mark, (&start, KEYS_MAX), &mut piece).ok_or_else(interrupted)?
        };
        writer.keys(&piece)?;
    }
    writer.end()
}
