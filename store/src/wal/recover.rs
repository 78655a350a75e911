//! What the segments on disk add up to.

use std::collections::VecDeque;

use bytes::Bytes;

use super::core::{Flushed, Sealed, WalConfig, WalError, failed};
use super::disk::Disk;
use super::record::{LogPosition, LogState, Record};
use super::segment::{self, Found, Location, Scan, ScanError};

/// An entry of the recovered log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEntry {
    pub id: LogPosition,
    pub location: Location,
    /// Absent when the cache limit was reached by newer entries.
    pub bytes: Option<Bytes>,
}

/// The log as it stood, all of it durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    pub state: LogState,
    /// Neighbouring entries, oldest first.
    pub entries: VecDeque<LoggedEntry>,
}

impl Recovered {
    /// Whether another entry stands in the place of the last applied one. The leader that wrote it was deposed before anybody committed it,
    /// and all behind it is of its kind.
    ///
    /// Such entries come back when the power goes just after a whole state was taken over in their place: the state is durable by
    /// then, and nothing waits for their removal to be.
    #[must_use]
    pub fn is_overruled(&self, applied: LogPosition) -> bool {
        let first = self.entries.front().map(|entry| entry.id.index);
        let place = first.and_then(|first| applied.index.checked_sub(first));
        let rival = place.and_then(|place| self.entries.get(usize::try_from(place).ok()?));
        rival.is_some_and(|rival| rival.id != applied)
    }

    /// Returns what comes behind the last applied entry, and is not overruled by it.
    pub(crate) fn entries_behind(mut self, applied: Option<LogPosition>) -> VecDeque<LoggedEntry> {
        if applied.is_some_and(|applied| self.is_overruled(applied)) {
            return VecDeque::new();
        }
        self.entries.retain(|entry| Some(entry.id.index) > applied.map(|applied| applied.index));
        self.entries
    }
}

/// The proven part of the log and the tail that must be written again.
#[derive(Default)]
pub(crate) struct Replay {
    pub(crate) state: LogState,
    pub(crate) entries: VecDeque<LoggedEntry>,
    cached_bytes: usize,
    /// Records above the last proven offset, where they stand.
    pub(crate) tail: Vec<Found>,
    pub(crate) sealed: VecDeque<Sealed>,
    pub(crate) next_sequence: u64,
    /// Sequence and counted bytes of the last segment.
    pub(crate) previous: (u64, u64),
    /// The start of the last segment, if it may not be durable.
    pub(crate) unproven_start: Option<Bytes>,
    /// Files behind the last segment that never became one.
    pub(crate) unstarted: Vec<String>,
    /// Sum of all records, those of the tail too.
    pub(crate) end: LogState,
}

/// Reads every segment in order.
pub(crate) fn replay(disk: &dyn Disk, config: &WalConfig) -> Result<Replay, WalError> {
    let names = disk.list().map_err(|error| failed(disk, "list", "the log directory", error))?;
    let mut sequences: Vec<u64> = names.iter().filter_map(|name| segment::parse_file_name(name)).collect();
    let next_sequence = sequences.last().map_or(1, |last| last + 1);
    let mut replay = Replay { next_sequence, ..Replay::default() };
    let last_started = last_started(disk, &mut sequences, &mut replay.unstarted)?;
    let Some((last, last_scan)) = last_started else { return Ok(replay) };
    if last_scan.is_sealed {
        let (file, next) = (segment::file_name(last), segment::file_name(last + 1));
        return Err(WalError::MissingSuccessor { file, next });
    }
    let mut following = (last, last_scan.head);
    // The head of each segment says how much of the one before counts, so heads are read backwards first.
    let mut heads = vec![following];
    while let Some(sequence) = sequences.pop() {
        let (next, next_head) = following;
        if next_head.previous_sequence != sequence {
            return Err(WalError::MissingSegments { file: segment::file_name(next) });
        }
        following = (sequence, read_start(disk, sequence)?);
        heads.push(following);
    }
    let (first, first_head) = following;
    replay.state = first_head.state;
    for pair in heads.iter().rev().collect::<Vec<_>>().windows(2) {
        let [(sequence, head), (_, next_head)] = pair else { continue };
        let scan = read_segment(disk, *sequence, Some(next_head.previous_end))?;
        replay.check_head(*sequence, head)?;
        replay.fold_segment(*sequence, scan.records, config)?;
    }
    replay.check_head(last, &last_scan.head)?;
    replay.take_last(last, last_scan, config)?;
    replay.fold_tail()?;
    replay.check_start(first)?;
    Ok(replay)
}

/// Finds the last segment that was ever synced, and the files behind it that never became segments.
fn last_started(
    disk: &dyn Disk,
    sequences: &mut Vec<u64>,
    unstarted: &mut Vec<String>,
) -> Result<Option<(u64, Scan)>, WalError> {
    while let Some(sequence) = sequences.pop() {
        let file = segment::file_name(sequence);
        match segment::scan(sequence, &read_file(disk, &file)?, None) {
            Ok(scan) => return Ok(Some((sequence, scan))),
            Err(ScanError::NeverStarted) => unstarted.push(file),
            Err(ScanError::Corrupt { offset }) => return Err(WalError::Corrupt { file, offset }),
            Err(ScanError::Version { found }) => return Err(WalError::Version { file, found }),
        }
    }
    Ok(None)
}

fn read_start(disk: &dyn Disk, sequence: u64) -> Result<segment::HeadState, WalError> {
    let file = segment::file_name(sequence);
    let bytes =
        disk.read(&file, 0, segment::START_BYTES).map_err(|error| failed(disk, "read", &file, error))?;
    segment::read_start(sequence, &bytes.into()).ok_or(WalError::Corrupt { file, offset: 0 })
}

fn read_segment(disk: &dyn Disk, sequence: u64, limit: Option<u64>) -> Result<Scan, WalError> {
    let file = segment::file_name(sequence);
    match segment::scan(sequence, &read_file(disk, &file)?, limit) {
        Ok(scan) => Ok(scan),
        Err(ScanError::NeverStarted) => Err(WalError::Corrupt { file, offset: 0 }),
        Err(ScanError::Corrupt { offset }) => Err(WalError::Corrupt { file, offset }),
        Err(ScanError::Version { found }) => Err(WalError::Version { file, found }),
    }
}

fn read_file(disk: &dyn Disk, file: &str) -> Result<Bytes, WalError> {
    let length = disk.length(file).map_err(|error| failed(disk, "stat", file, error))?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    disk.read(file, 0, length).map(Bytes::from).map_err(|error| failed(disk, "read", file, error))
}

impl Replay {
    /// The state record at the head of a segment must say what the segments before it add up to.
    fn check_head(&self, sequence: u64, head: &segment::HeadState) -> Result<(), WalError> {
        if head.state == self.state {
            return Ok(());
        }
        Err(WalError::Corrupt { file: segment::file_name(sequence), offset: segment::FIRST_BATCH })
    }

    pub(crate) fn is_new(&self) -> bool {
        self.previous == (0, 0)
    }

    fn fold_tail(&mut self) -> Result<(), WalError> {
        self.end = self.state;
        for found in &self.tail {
            self.end.apply(&found.record)?;
        }
        Ok(())
    }

    /// No entry may be missing behind what was purged.
    fn check_start(&self, first: u64) -> Result<(), WalError> {
        // The purge that let older segments go is durable, but it may stand in the tail.
        let expected = self.end.purged.map_or(0, |purged| purged.index + 1);
        let start = match (self.entries.front(), self.state.last) {
            (Some(entry), _) => entry.id.index,
            (None, Some(last)) => last.index + 1,
            (None, None) => 0,
        };
        if start <= expected {
            return Ok(());
        }
        Err(WalError::MissingSegments { file: segment::file_name(first) })
    }

    fn fold_segment(
        &mut self,
        sequence: u64,
        records: Vec<Found>,
        config: &WalConfig,
    ) -> Result<(), WalError> {
        let mut index_max = None;
        for found in records {
            if let Record::Entry(entry) = &found.record {
                index_max = index_max.max(Some(entry.id.index));
            }
            self.fold(&found.record, found.location, config.cache_bytes_max)?;
        }
        self.sealed.push_back(Sealed { sequence, index_max });
        Ok(())
    }

    /// Splits the last segment at its last proven offset.
    fn take_last(&mut self, sequence: u64, scan: Scan, config: &WalConfig) -> Result<(), WalError> {
        let proven = scan.proven;
        let (counted, tail): (Vec<_>, Vec<_>) =
            scan.records.into_iter().partition(|found| found.batch_end <= proven);
        self.previous = (sequence, proven);
        self.unproven_start = scan.unproven_start;
        self.tail = tail;
        self.fold_segment(sequence, counted, config)
    }

    /// Adds the tail where it stands.
    pub(crate) fn unrepaired(mut self, config: &WalConfig) -> Result<Recovered, WalError> {
        for found in std::mem::take(&mut self.tail) {
            self.fold(&found.record, found.location, config.cache_bytes_max)?;
        }
        Ok(Recovered { state: self.state, entries: self.entries })
    }

    /// Adds the rewritten tail with its new places.
    pub(crate) fn finish(
        mut self,
        config: &WalConfig,
        repeated: &[Record],
        flushed: &Flushed,
    ) -> Result<Recovered, WalError> {
        let mut places = flushed.entries.iter();
        let nowhere = Location { segment: 0, offset: 0, length: 0 };
        for record in repeated {
            let location = match record {
                Record::Entry(_) => places.next().map_or(nowhere, |(_, location)| *location),
                Record::Vote(_) | Record::Committed(_) | Record::TruncateAfter(_) | Record::PurgedUpto(_) => {
                    nowhere
                }
            };
            self.fold(record, location, config.cache_bytes_max)?;
        }
        Ok(Recovered { state: self.state, entries: self.entries })
    }

    fn fold(&mut self, record: &Record, location: Location, cache_bytes_max: usize) -> Result<(), WalError> {
        self.state.apply(record)?;
        match record {
            Record::Entry(entry) => {
                // A copy, so that one entry does not keep its whole segment in memory.
                let bytes = Bytes::copy_from_slice(&entry.bytes);
                self.cached_bytes += bytes.len();
                self.entries.push_back(LoggedEntry { id: entry.id, location, bytes: Some(bytes) });
                self.evict(cache_bytes_max);
            }
            Record::TruncateAfter(position) => {
                let keep = position.map(|position| position.index);
                while self.entries.back().is_some_and(|entry| Some(entry.id.index) > keep) {
                    self.entries.pop_back();
                }
            }
            Record::PurgedUpto(position) => {
                while self.entries.front().is_some_and(|entry| entry.id.index <= position.index) {
                    self.entries.pop_front();
                }
            }
            Record::Vote(_) | Record::Committed(_) => {}
        }
        Ok(())
    }

    /// Drops the bytes of the oldest entries. Entries leave from both ends, so the total is counted anew when it
    /// seems too high.
    fn evict(&mut self, cache_bytes_max: usize) {
        if self.cached_bytes <= cache_bytes_max {
            return;
        }
        self.cached_bytes =
            self.entries.iter().filter_map(|entry| entry.bytes.as_ref()).map(Bytes::len).sum();
        for entry in &mut self.entries {
            // Half, so that the recount is rare.
            if self.cached_bytes <= cache_bytes_max / 2 {
                return;
            }
            if let Some(bytes) = entry.bytes.take() {
                self.cached_bytes -= bytes.len();
            }
        }
    }
}
