//! The log as a synchronous core: records in, one write and at most one sync per flush.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::disk::{Disk, FreeSpace, is_full};
use super::record::{self, Hole, LogPosition, LogState, RECORD_HEADER_BYTES, Record};
use super::recover::{self, Recovered, Replay};
use super::segment::{self, BATCH_HEADER_BYTES, HeadState, Location, block_ceil};

/// Upper bound of an encoded record that is not an entry: two varints with tags inside one message.
const SMALL_RECORD_BYTES_MAX: usize = RECORD_HEADER_BYTES + 64;
/// Prefix of files that wait to become segments.
pub(crate) const SPARE_PREFIX: &str = "spare-";
const SPARE_NEXT: &str = "spare-next";
const SPARE_UNFINISHED: &str = "spare-next.tmp";

/// Sizes of the log.
#[derive(Clone, Copy, Debug)]
pub struct WalConfig {
    /// Nominal size of a segment; one batch that is larger extends its file.
    pub segment_bytes: u64,
    /// Most bytes written as one batch: bounds the memory of a flush and the loss of a torn one.
    pub batch_bytes_max: usize,
    /// Zero-filled or recycled files kept ready.
    pub spares_max: usize,
    /// Entry bytes that recovery keeps in memory; older entries are read back from disk.
    pub cache_bytes_max: usize,
}

impl Default for WalConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            batch_bytes_max: 4 * 1024 * 1024,
            spares_max: 2,
            cache_bytes_max: 64 * 1024 * 1024,
        }
    }
}

/// Why the log cannot go on. Every variant ends the member.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    #[error("disk full in {path}: {free_bytes} bytes free, cannot {operation} {file}")]
    DiskFull { path: String, free_bytes: u64, operation: &'static str, file: String },
    #[error("{operation} of {file} failed")]
    Io { operation: &'static str, file: String, source: io::Error },
    #[error("{file} is corrupt at offset {offset}: bytes that were synced are not intact")]
    Corrupt { file: String, offset: u64 },
    #[error("{file} has log format {found}, which this version cannot read")]
    Version { file: String, found: u32 },
    #[error("log segments before {file} are missing")]
    MissingSegments { file: String },
    #[error("log segment {next} is missing or empty: {file} says that the log goes on there")]
    MissingSuccessor { file: String, next: String },
    #[error(transparent)]
    Hole(#[from] Hole),
    #[error("the log failed before and takes no more records")]
    Poisoned,
}

/// What one flush did.
#[derive(Debug, Default)]
pub struct Flushed {
    /// Index and place of every entry written.
    pub entries: Vec<(u64, Location)>,
    pub batches: usize,
    pub bytes: u64,
    pub synced: bool,
}

#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) sequence: u64,
    /// Highest index of an entry in it, also of a truncated one.
    pub(crate) index_max: Option<u64>,
}

#[derive(Debug)]
struct Active {
    sequence: u64,
    /// Where the next batch goes.
    end: u64,
    /// Everything below is durable.
    synced: u64,
    index_max: Option<u64>,
}

/// The write-ahead log. Owned by one thread or task.
pub struct Wal {
    disk: Arc<dyn Disk>,
    config: WalConfig,
    /// Sum of all records written.
    state: LogState,
    /// Highest purged index whose record is durable: entries up to it are never needed again.
    durable_purged: Option<u64>,
    sealed: VecDeque<Sealed>,
    active: Active,
    pending: Vec<Record>,
    poisoned: bool,
}

/// A log that was read and not touched: what else belongs to the member can be checked before anything is written.
pub struct Inspected {
    disk: Arc<dyn Disk>,
    config: WalConfig,
    replay: Replay,
}

impl Inspected {
    /// Returns the sum of all records found.
    #[must_use]
    pub fn sum(&self) -> LogState {
        self.replay.end
    }

    /// Returns whether there is no log yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.replay.is_new()
    }

    /// Returns everything that was found, also what may not be durable: only for a log that nobody goes on with.
    ///
    /// # Errors
    /// When the records do not follow each other.
    pub fn into_recovered(self) -> Result<Recovered, WalError> {
        self.replay.unrepaired(&self.config)
    }

    /// Repairs a torn tail and makes everything that was found durable.
    ///
    /// # Errors
    /// When the disk fails or is full.
    pub fn start(self) -> Result<(Wal, Recovered), WalError> {
        let Self { disk, config, mut replay } = self;
        for file in std::mem::take(&mut replay.unstarted) {
            disk.remove(&file).map_err(|error| failed(&*disk, "remove", &file, error))?;
        }
        if let Some(start) = replay.unproven_start.take() {
            // The next segment builds on it. Written again, so that a sync cannot pass over what an earlier one has failed for.
            let file = segment::file_name(replay.previous.0);
            disk.write(&file, 0, &start).map_err(|error| failed(&*disk, "write", &file, error))?;
            disk.sync(&file).map_err(|error| failed(&*disk, "sync", &file, error))?;
        }
        let active = Active { sequence: replay.next_sequence, end: 0, synced: 0, index_max: None };
        let mut wal = Wal {
            disk,
            config,
            state: replay.state,
            durable_purged: None,
            sealed: std::mem::take(&mut replay.sealed),
            active,
            pending: Vec::new(),
            poisoned: false,
        };
        let tail: Vec<Record> =
            std::mem::take(&mut replay.tail).into_iter().map(|found| found.record).collect();
        let flushed = wal.start_segment(replay.previous, &tail)?;
        wal.seal(replay.previous)?;
        let recovered = replay.finish(&wal.config, &tail, &flushed)?;
        Ok((wal, recovered))
    }
}

impl Wal {
    /// Reads the log and changes nothing.
    ///
    /// # Errors
    /// When the disk fails, or holds bytes that were synced once and are not intact now.
    pub fn inspect(disk: Arc<dyn Disk>, config: WalConfig) -> Result<Inspected, WalError> {
        let replay = recover::replay(&*disk, &config)?;
        Ok(Inspected { disk, config, replay })
    }

    /// Opens the log, repairs a torn tail and makes everything that it reports durable.
    ///
    /// # Errors
    /// When the disk fails, is full, or holds bytes that were synced once and are not intact now.
    pub fn open(disk: Arc<dyn Disk>, config: WalConfig) -> Result<(Self, Recovered), WalError> {
        Self::inspect(disk, config)?.start()
    }

    /// Drops the entries of a log that is overruled by what is applied ([`Recovered::is_overruled`]).
    ///
    /// # Errors
    /// As [`Wal::flush`].
    pub fn drop_overruled(
        &mut self,
        recovered: &mut Recovered,
        applied: LogPosition,
    ) -> Result<(), WalError> {
        if !recovered.is_overruled(applied) {
            return Ok(());
        }
        self.submit(Record::TruncateAfter(self.state.purged));
        self.submit(Record::PurgedUpto(applied));
        self.flush()?;
        *recovered = Recovered { state: self.state, entries: VecDeque::new() };
        Ok(())
    }

    /// Takes a record; it is written by the next [`Wal::flush`].
    pub fn submit(&mut self, record: Record) {
        self.pending.push(record);
    }

    /// Writes everything submitted and syncs when a record asks for it. On return those records are durable.
    ///
    /// # Errors
    /// When the disk fails. The log is poisoned then: nothing that was not acknowledged may be acknowledged later.
    pub fn flush(&mut self) -> Result<Flushed, WalError> {
        self.guarded(|wal| wal.write_pending(Sync::WhenNeeded))
    }

    /// Syncs and leaves a header that proves everything written, so that the next start can tell any damage.
    ///
    /// # Errors
    /// As [`Wal::flush`].
    pub fn close(&mut self) -> Result<(), WalError> {
        self.guarded(|wal| {
            wal.write_pending(Sync::Always)?;
            wal.write_batch(&[], &mut Flushed::default())?;
            wal.sync()
        })
    }

    /// Returns the sum of all records written.
    #[must_use]
    pub fn state(&self) -> LogState {
        self.state
    }

    /// Returns the number of the segment that is written to.
    pub(crate) fn sequence(&self) -> u64 {
        self.active.sequence
    }

    /// Returns the bytes that the segments occupy on disk, for the snapshot trigger.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let sealed = u64::try_from(self.sealed.len()).expect("usize fits in u64");
        sealed * self.config.segment_bytes + self.active.end
    }

    fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, WalError>) -> Result<T, WalError> {
        if self.poisoned {
            return Err(WalError::Poisoned);
        }
        let result = work(self);
        self.poisoned = result.is_err();
        result
    }

    fn write_pending(&mut self, sync: Sync) -> Result<Flushed, WalError> {
        let records = std::mem::take(&mut self.pending);
        let needs_sync = sync == Sync::Always || records.iter().any(Record::needs_sync);
        let mut flushed = Flushed::default();
        self.write_batches(&records, Room::Rotate, &mut flushed)?;
        if needs_sync {
            self.sync()?;
            flushed.synced = true;
            self.recycle()?;
        }
        Ok(flushed)
    }

    fn write_batches(
        &mut self,
        records: &[Record],
        room: Room,
        flushed: &mut Flushed,
    ) -> Result<(), WalError> {
        let mut rest = records;
        while !rest.is_empty() {
            let (batch, size) = cut_batch(rest, self.config.batch_bytes_max);
            rest = rest.get(batch.len()..).unwrap_or_default();
            match room {
                Room::Rotate => self.make_room(size)?,
                Room::Extend => {}
            }
            self.write_batch(batch, flushed)?;
        }
        Ok(())
    }

    fn make_room(&mut self, size: usize) -> Result<(), WalError> {
        let size = u64::try_from(BATCH_HEADER_BYTES + size).expect("usize fits in u64");
        // Behind the last batch comes the seal.
        let fits = block_ceil(self.active.end + size) + segment::BLOCK_BYTES <= self.config.segment_bytes;
        let is_fresh = self.active.index_max.is_none() && self.active.end <= 2 * segment::BLOCK_BYTES;
        if fits || is_fresh { Ok(()) } else { self.rotate() }
    }

    fn write_batch(&mut self, batch: &[Record], flushed: &mut Flushed) -> Result<(), WalError> {
        let sequence = self.active.sequence;
        let mut records = BytesMut::new();
        for record in batch {
            let start = BATCH_HEADER_BYTES + records.len() + RECORD_HEADER_BYTES;
            let length = record.encode(sequence, &mut records);
            self.state.apply(record)?;
            if let Record::Entry(entry) = record {
                let offset = self.active.end + u64::try_from(start).expect("usize fits in u64");
                flushed.entries.push((entry.id.index, Location { segment: sequence, offset, length }));
                self.active.index_max = self.active.index_max.max(Some(entry.id.index));
            }
        }
        let mut out = BytesMut::new();
        segment::encode_batch(sequence, self.active.synced, &records, &mut out);
        let file = segment::file_name(sequence);
        self.disk.write(&file, self.active.end, &out).map_err(|error| self.failed("write", &file, error))?;
        let written = u64::try_from(out.len()).expect("usize fits in u64");
        self.active.end += written;
        flushed.batches += 1;
        flushed.bytes += written;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), WalError> {
        if self.active.synced < self.active.end {
            self.sync_file(self.active.sequence)?;
            self.active.synced = self.active.end;
        }
        self.durable_purged = self.state.purged.map(|purged| purged.index);
        Ok(())
    }

    fn sync_file(&self, sequence: u64) -> Result<(), WalError> {
        let file = segment::file_name(sequence);
        self.disk.sync(&file).map_err(|error| self.failed("sync", &file, error))
    }

    /// Seals the active segment and starts the next one.
    fn rotate(&mut self) -> Result<(), WalError> {
        self.sync()?;
        let next = Active { sequence: self.active.sequence + 1, end: 0, synced: 0, index_max: None };
        let old = std::mem::replace(&mut self.active, next);
        self.sealed.push_back(Sealed { sequence: old.sequence, index_max: old.index_max });
        let previous = (old.sequence, old.end);
        self.start_segment(previous, &[])?;
        self.seal(previous)
    }

    /// Makes the active segment real; durable on return, `tail` included.
    ///
    /// The head is written last: with it, what the previous segment holds above `previous` no longer counts, so by
    /// then the repeated tail must be durable. A crash before leaves a file without a head, which never started.
    fn start_segment(&mut self, previous: (u64, u64), tail: &[Record]) -> Result<Flushed, WalError> {
        let file = self.take_file()?;
        let (previous_sequence, previous_end) = previous;
        let head = HeadState { state: self.state, previous_sequence, previous_end };
        let start = segment::encode_start(self.active.sequence, &head);
        self.active.end = u64::try_from(start.len()).expect("usize fits in u64");
        let mut flushed = Flushed::default();
        if !tail.is_empty() {
            self.write_batches(tail, Room::Extend, &mut flushed)?;
            self.sync_file(self.active.sequence)?;
        }
        self.disk.write(&file, 0, &start).map_err(|error| self.failed("write", &file, error))?;
        self.sync()?;
        Ok(flushed)
    }

    /// Notes in a segment that the next one has begun, which is durable by now: should that be lost as a whole, the log would seem to
    /// end here. What stood behind `end` no longer counts.
    fn seal(&self, (sequence, end): (u64, u64)) -> Result<(), WalError> {
        if sequence == 0 {
            // The first segment follows none.
            return Ok(());
        }
        let (file, seal) = (segment::file_name(sequence), segment::encode_seal(sequence, end));
        self.disk.write(&file, end, &seal).map_err(|error| self.failed("write", &file, error))?;
        self.sync_file(sequence)
    }

    /// Turns a spare or new file into the file of the active segment.
    fn take_file(&self) -> Result<String, WalError> {
        let file = segment::file_name(self.active.sequence);
        match self.spares()?.first() {
            Some(spare) => {
                self.disk.rename(spare, &file).map_err(|error| self.failed("rename", spare, error))?;
            }
            None => self
                .disk
                .create(&file, self.config.segment_bytes)
                .map_err(|error| self.failed("create", &sized(&file, self.config.segment_bytes), error))?,
        }
        Ok(file)
    }

    /// Hands whole segments back whose entries are all purged, oldest first. Later heads repeat all else they said.
    fn recycle(&mut self) -> Result<(), WalError> {
        while let Some(oldest) = self.sealed.front() {
            if oldest.index_max > self.durable_purged {
                return Ok(());
            }
            let file = segment::file_name(oldest.sequence);
            if self.spares()?.len() < self.config.spares_max {
                let spare = format!("{SPARE_PREFIX}{:016x}", oldest.sequence);
                self.disk.rename(&file, &spare).map_err(|error| self.failed("rename", &file, error))?;
            } else {
                self.disk.remove(&file).map_err(|error| self.failed("remove", &file, error))?;
            }
            self.sealed.pop_front();
        }
        Ok(())
    }

    fn spares(&self) -> Result<Vec<String>, WalError> {
        let names = self.disk.list().map_err(|error| self.failed("list", "the log directory", error))?;
        Ok(names.into_iter().filter(|name| is_spare(name)).collect())
    }

    fn failed(&self, operation: &'static str, file: &str, error: io::Error) -> WalError {
        failed(&*self.disk, operation, file, error)
    }
}

/// What to do when a batch does not fit the segment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Rotate,
    Extend,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    WhenNeeded,
    Always,
}

/// Fills a file ahead of need, unless one is ready. Runs beside the log, so that rotation finds its blocks allocated.
///
/// # Errors
/// When the disk is full or fails; the log itself then meets the same fault when it needs a segment.
pub(crate) fn prepare_spare(disk: &dyn Disk, config: &WalConfig) -> io::Result<()> {
    let names = disk.list()?;
    if names.iter().any(|name| is_spare(name)) {
        return Ok(());
    }
    if names.iter().any(|name| name == SPARE_UNFINISHED) {
        disk.remove(SPARE_UNFINISHED)?;
    }
    disk.create(SPARE_UNFINISHED, config.segment_bytes)?;
    disk.rename(SPARE_UNFINISHED, SPARE_NEXT)
}

/// Reads one entry back.
///
/// # Errors
/// When the file is gone (the entry was purged meanwhile) or the bytes are not intact.
pub(crate) fn read_entry(disk: &dyn Disk, location: Location) -> Result<Bytes, WalError> {
    let file = segment::file_name(location.segment);
    let header = u64::try_from(RECORD_HEADER_BYTES).expect("usize fits in u64");
    let start = location.offset.saturating_sub(header);
    let bytes = disk
        .read(&file, start, RECORD_HEADER_BYTES + location.length)
        .map_err(|error| failed(disk, "read", &file, error))?;
    record::decode_raw(location.segment, &mut bytes.into())
        .map(|raw| raw.payload)
        .ok_or(WalError::Corrupt { file, offset: start })
}

pub(crate) fn failed(disk: &dyn Disk, operation: &'static str, file: &str, source: io::Error) -> WalError {
    let FreeSpace { path, free_bytes, .. } = disk.free_space();
    if is_full(&source) {
        return WalError::DiskFull { path, free_bytes, operation, file: file.to_owned() };
    }
    WalError::Io { operation, file: format!("{path}/{file}"), source }
}

/// Names a file with the room that it takes.
fn sized(file: &str, bytes: u64) -> String {
    format!("{file} of {bytes} bytes")
}

fn is_spare(name: &str) -> bool {
    name.starts_with(SPARE_PREFIX) && name != SPARE_UNFINISHED
}

/// Takes as many records as one batch may hold, at least one, with a bound of their encoded size.
fn cut_batch(records: &[Record], bytes_max: usize) -> (&[Record], usize) {
    let mut size = 0;
    let mut count = 0;
    for record in records {
        let next = match record {
            Record::Entry(entry) => RECORD_HEADER_BYTES + entry.bytes.len(),
            Record::Vote(_) | Record::Committed(_) | Record::TruncateAfter(_) | Record::PurgedUpto(_) => {
                SMALL_RECORD_BYTES_MAX
            }
        };
        if count > 0 && size + next > bytes_max {
            break;
        }
        size += next;
        count += 1;
    }
    (records.get(..count).unwrap_or(records), size)
}
