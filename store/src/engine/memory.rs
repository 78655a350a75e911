//! The engine of tests and simulation: two ordered maps, one for what readers see and one for what would survive a crash.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::{Batch, Engine, EngineError, Visitor, Write};

/// An engine in memory. Clones share the state, so a simulated member can be dropped and opened again on it.
#[derive(Clone, Debug, Default)]
pub struct MemoryEngine {
    state: Arc<RwLock<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// A scan keeps the map that it began with; a write meanwhile goes to a copy.
    live: Arc<BTreeMap<Bytes, Bytes>>,
    /// Since the last flush; a crash loses them, or all behind some batch.
    unflushed: Vec<Batch>,
    flushed: BTreeMap<Bytes, Bytes>,
}

impl MemoryEngine {
    /// Returns an empty engine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns another engine that holds the same, all of it flushed.
    #[must_use]
    pub fn fork(&self) -> Self {
        let live = BTreeMap::clone(&self.read().live);
        let state = State { live: Arc::new(live.clone()), unflushed: Vec::new(), flushed: live };
        Self { state: Arc::new(RwLock::new(state)) }
    }

    /// Forgets what was not flushed, as a power failure would.
    pub fn crash(&self) {
        self.crash_behind(0);
    }

    /// Forgets what was not flushed, but for the first batches: an engine may flush before it is asked to.
    pub fn crash_behind(&self, batches: usize) {
        let state = &mut *self.lock();
        for batch in state.unflushed.drain(..).take(batches) {
            batch.writes().iter().for_each(|write| apply(&mut state.flushed, write));
        }
        state.live = Arc::new(state.flushed.clone());
    }

    /// Returns how many batches were written since the last flush.
    #[must_use]
    pub fn unflushed_batches(&self) -> usize {
        self.read().unflushed.len()
    }

    /// Removes everything, as a replaced data directory would.
    pub fn clear(&self) {
        *self.lock() = State::default();
    }

    fn lock(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn apply(map: &mut BTreeMap<Bytes, Bytes>, write: &Write) {
    match write {
        Write::Put { key, value } => drop(map.insert(key.clone(), value.clone())),
        Write::Delete { key } => drop(map.remove(key)),
        Write::DeleteRange { from, before } => {
            map.extract_if(from.clone()..before.clone(), |_, _| true).for_each(drop);
        }
    }
}

impl Engine for MemoryEngine {
    fn write(&self, batch: &Batch) -> Result<(), EngineError> {
        let state = &mut *self.lock();
        let live = Arc::make_mut(&mut state.live);
        for write in batch.writes() {
            apply(live, write);
        }
        state.unflushed.push(batch.clone());
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.read().live.get(key).cloned())
    }

    fn scan(&self, from: &[u8], before: Option<&[u8]>, visit: &mut Visitor<'_>) -> Result<(), EngineError> {
        if before.is_some_and(|before| before <= from) {
            return Ok(());
        }
        let bounds = (Bound::Included(from), before.map_or(Bound::Unbounded, Bound::Excluded));
        let live = Arc::clone(&self.read().live);
        for (key, value) in live.range::<[u8], _>(bounds) {
            if let ControlFlow::Break(()) = visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), EngineError> {
        let state = &mut *self.lock();
        for batch in state.unflushed.drain(..) {
            batch.writes().iter().for_each(|write| apply(&mut state.flushed, write));
        }
        Ok(())
    }

    fn checkpoint(&self, _directory: &Path) -> Result<(), EngineError> {
        Err(EngineError::NoCheckpoint)
    }

    fn size_bytes(&self) -> u64 {
        let bytes: usize = self.read().live.iter().map(|(key, value)| key.len() + value.len()).sum();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crash_keeps_what_was_flushed_and_nothing_else() {
        let engine = MemoryEngine::new();
        let mut batch = Batch::default();
        batch.put(&b"a"[..], &b"1"[..]);
        engine.write(&batch).unwrap();
        engine.flush().unwrap();
        let mut batch = Batch::default();
        batch.put(&b"b"[..], &b"2"[..]);
        batch.delete(&b"a"[..]);
        engine.write(&batch).unwrap();
        engine.crash();
        assert_eq!(engine.get(b"a").unwrap(), Some(Bytes::from_static(b"1")));
        assert_eq!(engine.get(b"b").unwrap(), None);
    }

    #[test]
    fn a_crash_may_keep_whole_batches_from_the_first_on() {
        let engine = MemoryEngine::new();
        for key in [&b"a"[..], b"b", b"c"] {
            let mut batch = Batch::default();
            batch.put(key, &b"1"[..]);
            engine.write(&batch).unwrap();
        }
        assert_eq!(engine.unflushed_batches(), 3);
        engine.crash_behind(2);
        assert!(engine.get(b"b").unwrap().is_some() && engine.get(b"c").unwrap().is_none());
        engine.crash();
        assert!(engine.get(b"b").unwrap().is_some(), "what was kept is durable");
    }
}
