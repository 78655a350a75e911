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
use crate::env::{Engines, error_chain};
use crate::mvcc::{Collection, KEYS_MAX, Mark, Revision, Store, Writer};

/// How saving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Saving {
    Done,
    /// Rows are being removed, or were allowed to be while it was written.
    Interrupted,
    Failed,
}

/// Opens a store for a start, and says whether there was a saved index that fits.
pub(super) fn open(engines: &dyn Engines, engine: Arc<dyn Engine>) -> Result<(Store, bool), EngineError> {
    let found = match engines.saved_index() {
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
    let (engine, mark) = {
        let mut store = machine.store_mut();
        (Arc::clone(store.engine()), store.begin_saving())
    };
    let engines = &machine.env().engines;
    let mark = mark.ok_or_else(interrupted);
    let written = mark.and_then(|mark| {
        let number = engines.write_index(&mut |out| write(machine, mark, out))?;
        Ok((mark, number))
    });
    engine.flush()?;
    match written.and_then(|(mark, number)| engines.publish_index(number).map(|()| mark)) {
        Ok(mark) => {
            forget_deletions(machine, mark.revision)?;
            Ok(Saving::Done)
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            tracing::debug!("rows are being removed; the index is saved another time");
            Ok(Saving::Interrupted)
        }
        Err(error) => {
            tracing::warn!(error = error_chain(&error), "cannot save the index");
            Ok(Saving::Failed)
        }
    }
}

fn interrupted() -> io::Error {
    io::ErrorKind::Interrupted.into()
}

/// Whoever replaces everything waits for this, so all pieces are of one engine.
fn write(machine: &Machine, mark: Mark, out: &mut dyn Write) -> io::Result<()> {
    let mut writer = Writer::begin(out, mark)?;
    let mut from = Some(Bytes::new());
    while let Some(start) = from {
        let mut piece = BytesMut::new();
        from = machine.store().save_keys(mark, (&start, KEYS_MAX), &mut piece).ok_or_else(interrupted)?;
        writer.keys(&piece)?;
    }
    writer.end()
}

/// Removes what only an older index needed, some rows at a time.
fn forget_deletions(machine: &Machine, saved: Revision) -> Result<(), EngineError> {
    let mut collection = Collection::MoreToDo;
    while collection == Collection::MoreToDo {
        let mut store = machine.store_mut();
        collection = store.forget_deletions(saved, KEYS_MAX)?;
        store.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};
    use std::time::Duration;

    use super::super::state_machine::{AppliedEntry, Found, Observer};
    use super::super::types::SnapshotMeta;
    use super::*;
    use crate::env::engines::SimEngines;
    use crate::env::{Env, EnvParts, Place};
    use crate::level::Levels;
    use crate::mvcc::{Command, Op, Put, Txn};
    use crate::net::TcpNet;
    use crate::wal::disk_sim::SimDisk;

    struct Nobody;

    impl Observer for Nobody {
        fn applied(&self, _entry: AppliedEntry) {}

        fn replaced(&self, _store: &Store) {}
    }

    fn fill(engine: Arc<dyn Engine>, keys: &[&'static str]) {
        let mut store = Store::open(engine).unwrap();
        for key in keys {
            let put = Put { key: (*key).into(), ..Put::default() };
            let _applied = store.apply(&Command::Txn(Txn::of(Op::Put(put)))).unwrap();
        }
        store.commit().unwrap();
    }

    fn machine(engines: &SimEngines) -> Arc<Machine> {
        let env = Env::new(EnvParts {
            place: Place::Machine,
            disk: Arc::new(SimDisk::new(1)),
            engines: Arc::new(engines.clone()),
            net: Arc::new(TcpNet::default()),
            fatal: Arc::new(|message| panic!("{message}")),
            seed: 1,
        });
        Arc::new(
            Machine::open(&env, Arc::new(Nobody), Found::read(&*env.engines, Levels::SUPPORTED).unwrap())
                .unwrap(),
        )
    }

    #[test]
    fn a_state_that_replaces_another_waits_until_its_index_is_saved() {
        let engines = SimEngines::default();
        fill(engines.open().unwrap(), &["a", "b"]);
        let machine = machine(&engines);
        let staged = engines.stage().unwrap();
        fill(Arc::clone(staged.engine()), &["c"]);
        let (saving, is_saving) = mpsc::channel();
        let (adopted, is_adopted) = mpsc::channel::<()>();
        let is_adopted = Mutex::new(is_adopted);
        engines.at_index_points(Arc::new(move |_| {
            // Gone once the other has begun.
            let _begun = saving.send(());
            let early = is_adopted.lock().unwrap().recv_timeout(Duration::from_millis(50));
            assert_eq!(
                early,
                Err(mpsc::RecvTimeoutError::Timeout),
                "replaced while the index was being saved"
            );
            Ok(())
        }));
        std::thread::scope(|scope| {
            let adopter = Arc::clone(&machine);
            let adopting = scope.spawn(move || {
                is_saving.recv().unwrap();
                adopter.adopt(staged, &SnapshotMeta::default()).unwrap();
                adopted.send(())
            });
            machine.flush_with_index().unwrap();
            // The point's closure is still there, so somebody listens.
            adopting.join().unwrap().unwrap();
        });
        assert!(engines.saved_index().unwrap().is_none(), "it belongs to the engine that was replaced");
        assert_eq!(machine.store().current_revision(), Revision(2));
    }
}
