//! openraft's log on the write-ahead log: the newest entries stay in memory, older ones are read back from disk.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use prost::Message;
use tokio::sync::oneshot;

use super::convert;
use super::slow::LogTimes;
use super::types::{Entry, LogId, TypeConfig, Vote};
use crate::wal::driver::{Done, Request, WalEnded, WalSender};
use crate::wal::{self, Disk, Flushed, Location, Record, Recovered, WalError};

/// Entry bytes of one replication message.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// The log of one member. Clones are readers of the same log.
#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
    wal: WalSender,
}

/// The part that the WAL's thread updates too.
pub(crate) struct Shared {
    disk: Arc<dyn Disk>,
    ring: Mutex<Ring>,
}

struct Ring {
    vote: Option<Vote>,
    committed: Option<LogId>,
    /// Whether the log does not say yet what is committed.
    owes_committed: bool,
    purged: Option<LogId>,
    slots: VecDeque<Slot>,
    /// Bytes of the entries held in memory.
    cached_bytes: usize,
    cache_bytes_max: usize,
    /// First slot that may still hold its entry.
    evict_from: u64,
}

struct Slot {
    id: LogId,
    size: usize,
    /// Absent when it was evicted; then it has a location.
    entry: Option<Entry>,
    /// Absent until it is written.
    location: Option<Location>,
    /// Absent when it is older than this start.
    appended: Option<Instant>,
    flushed: Option<Instant>,
}

impl Shared {
    /// Takes over what the WAL recovered.
    ///
    /// # Errors
    /// When a recovered entry is malformed.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        recovered: Recovered,
        cache_bytes_max: usize,
    ) -> Result<Self, convert::Malformed> {
        let mut slots = VecDeque::with_capacity(recovered.entries.len());
        let mut cached_bytes = 0;
        for logged in recovered.entries {
            let size = logged.bytes.as_ref().map_or(0, bytes::Bytes::len);
            cached_bytes += size;
            slots.push_back(Slot {
                id: convert::from_position(logged.id),
                size,
                entry: logged.bytes.map(convert::entry_from_bytes).transpose()?,
                location: Some(logged.location),
                appended: None,
                flushed: None,
            });
        }
        let ring = Ring {
            vote: recovered.state.vote.map(convert::vote_from_wal),
            committed: recovered.state.committed.map(convert::from_position),
            owes_committed: false,
            purged: recovered.state.purged.map(convert::from_position),
            slots,
            cached_bytes,
            cache_bytes_max,
            evict_from: 0,
        };
        Ok(Self { disk, ring: Mutex::new(ring) })
    }

    /// Learns where entries stand; called from the WAL's thread after each flush.
    pub(crate) fn on_flushed(&self, flushed: &Flushed) {
        let now = Instant::now();
        let mut ring = self.ring();
        for (index, location) in &flushed.entries {
            if let Some(slot) = ring.slot_mut(*index) {
                slot.location = Some(*location);
                slot.flushed = Some(now);
            }
        }
        ring.evict();
    }

    /// Returns the index of the last entry that raft has called committed, 0 before the first.
    pub(crate) fn committed(&self) -> u64 {
        self.ring().committed.map_or(0, |id| id.index())
    }

    /// Returns when an entry came here; `None` for one that is purged, or older than this start.
    pub(crate) fn times(&self, index: u64) -> Option<LogTimes> {
        let mut ring = self.ring();
        let slot = ring.slot_mut(index)?;
        slot.appended.map(|appended| LogTimes { appended, flushed: slot.flushed })
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn first_index(&self) -> Option<u64> {
        self.slots.front().map(|slot| slot.id.index())
    }

    fn slot_mut(&mut self, index: u64) -> Option<&mut Slot> {
        let offset = usize::try_from(index.checked_sub(self.first_index()?)?).ok()?;
        self.slots.get_mut(offset)
    }

    fn last(&self) -> Option<LogId> {
        self.slots.back().map(|slot| slot.id).or(self.purged)
    }

    fn push(&mut self, entry: Entry, size: usize, now: Instant) {
        self.cached_bytes += size;
        self.slots.push_back(Slot {
            id: entry.log_id(),
            size,
            entry: Some(entry),
            location: None,
            appended: Some(now),
            flushed: None,
        });
    }

    fn release(&mut self, slot: Option<Slot>) {
        if let Some(slot) = slot.filter(|slot| slot.entry.is_some()) {
            self.cached_bytes -= slot.size;
        }
    }

    fn truncate_after(&mut self, keep: Option<u64>) {
        while self.slots.back().is_some_and(|slot| Some(slot.id.index()) > keep) {
            let slot = self.slots.pop_back();
            self.release(slot);
        }
        self.evict_from = self.evict_from.min(keep.map_or(0, |keep| keep + 1));
    }

    fn purge(&mut self, upto: LogId) {
        while self.slots.front().is_some_and(|slot| slot.id.index() <= upto.index()) {
            let slot = self.slots.pop_front();
            self.release(slot);
        }
        self.purged = self.purged.max(Some(upto));
    }

    /// Drops the oldest entries that are on disk while too many bytes are held.
    fn evict(&mut self) {
        let Some(first) = self.first_index() else { return };
        let mut index = self.evict_from.max(first);
        while self.cached_bytes > self.cache_bytes_max {
            let Some(slot) = self.slot_mut(index).filter(|slot| slot.location.is_some()) else { break };
            let released = if slot.entry.take().is_some() { slot.size } else { 0 };
            self.cached_bytes -= released;
            index += 1;
        }
        self.evict_from = index;
    }

    /// Copies what is needed to read a range: entries, or where they stand. What is purged is left out, so the first may be a later one.
    fn collect(&self, start: u64, end: u64, bytes_max: usize) -> Vec<Found> {
        let Some(first) = self.first_index() else { return Vec::new() };
        let skip = usize::try_from(start.saturating_sub(first)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let mut found = Vec::new();
        for slot in self.slots.iter().skip(skip).take_while(|slot| slot.id.index() < end) {
            if !found.is_empty() && bytes > bytes_max {
                break;
            }
            bytes += slot.size;
            match (&slot.entry, slot.location) {
                (Some(entry), _) => found.push(Found::Entry(entry.clone())),
                (None, Some(location)) => found.push(Found::OnDisk(slot.id, location)),
                (None, None) => unreachable!("an entry is evicted only once it has a location"),
            }
        }
        found
    }
}

enum Found {
    Entry(Entry),
    OnDisk(LogId, Location),
}

impl LogStore {
    pub(crate) fn new(shared: Arc<Shared>, wal: WalSender) -> Self {
        Self { shared, wal }
    }

    fn read(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let found = self.shared.ring().collect(start, end, bytes_max);
        let mut entries = Vec::with_capacity(found.len());
        for found in found {
            match found {
                Found::Entry(entry) => entries.push(entry),
                Found::OnDisk(id, location) => entries.extend(self.read_back(id, location)?),
            }
        }
        Ok(entries)
    }

    /// Reads an entry from disk; `None` when it was purged meanwhile and its segment is gone.
    fn read_back(&self, id: LogId, location: Location) -> io::Result<Option<Entry>> {
        match wal::read_entry(&*self.shared.disk, location) {
            Ok(bytes) => Ok(Some(convert::entry_from_bytes(bytes)?)),
            Err(_) if self.shared.ring().purged >= Some(id) => Ok(None),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    async fn submit(&self, records: Vec<Record>, done: Option<Done>) -> io::Result<()> {
        self.wal.submit(Request { records, done }).await.map_err(ended)
    }
}

fn ended(ended: WalEnded) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, ended)
}

impl From<WalError> for io::Error {
    fn from(error: WalError) -> Self {
        Self::other(error)
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start, end, usize::MAX)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.ring().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, READ_BYTES_MAX)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let ring = self.shared.ring();
        Ok(LogState { last_purged_log_id: ring.purged, last_log_id: ring.last() })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (durable, wait) = oneshot::channel();
        let done: Done = Box::new(move || {
            // The receiver may be gone when the member stops.
            let _ = durable.send(());
        });
        self.submit(vec![Record::Vote(convert::vote_to_wal(vote))], Some(done)).await?;
        wait.await.map_err(|_| ended(WalEnded))?;
        self.shared.ring().vote = Some(*vote);
        Ok(())
    }

    /// Written with the next entries: a write of its own would double those of a single client, and all that a member
    /// without it loses at a restart is that it learns from its leader what it may apply.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let mut ring = self.shared.ring();
        ring.committed = committed;
        ring.owes_committed = true;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.shared.ring().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let now = Instant::now();
        let records = {
            let mut records = Vec::new();
            let mut ring = self.shared.ring();
            if std::mem::take(&mut ring.owes_committed) {
                records.push(Record::Committed(ring.committed.map(convert::position)));
            }
            for entry in entries {
                let bytes = bytes::Bytes::from(convert::entry_to_wire(&entry).encode_to_vec());
                let id = convert::position(entry.log_id());
                ring.push(entry, bytes.len(), now);
                records.push(Record::Entry(wal::Entry { id, bytes }));
            }
            records
        };
        self.submit(records, Some(Box::new(move || callback.io_completed(Ok(()))))).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.shared.ring().truncate_after(last_log_id.map(|id| id.index()));
        self.submit(vec![Record::TruncateAfter(last_log_id.map(convert::position))], None).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.shared.ring().purge(log_id);
        self.submit(vec![Record::PurgedUpto(convert::position(log_id))], None).await
    }
}
