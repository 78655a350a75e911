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
    live: BTreeMap<Bytes, Bytes>,
    /// Batches since the last flush; a crash loses them.
    unflushed: Vec<Write>,
    flushed: BTreeMap<Bytes, Bytes>,
}

impl MemoryEngine {
    /// Returns an empty engine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets what was not flushed, as a power failure would.
    pub fn crash(&self) {
        let mut state = self.lock();
        state.live = state.flushed.clone();
        state.unflushed.clear();
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
    }
}

impl Engine for MemoryEngine {
    fn write(&self, batch: &Batch) -> Result<(), EngineError> {
        let mut state = self.lock();
        for write in batch.writes() {
            apply(&mut state.live, write);
            state.unflushed.push(write.clone());
        }
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
        // Copied first (reference counts only): a visitor may write, and must see the state as it was.
        let rows: Vec<(Bytes, Bytes)> = self
            .read()
            .live
            .range::<[u8], _>(bounds)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        for (key, value) in rows {
            if let ControlFlow::Break(()) = visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), EngineError> {
        let mut state = self.lock();
        let writes = std::mem::take(&mut state.unflushed);
        for write in &writes {
            apply(&mut state.flushed, write);
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
}
